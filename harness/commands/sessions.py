"""`usermode ps`, `log`, `show`, `verify`: what sessions there are, and what their journals say."""

from __future__ import annotations

import json as jsonlib
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from shutil import get_terminal_size

from harness.commands.say import say, table
from harness.journal.reading import read
from harness.journal.reading import verify as check
from harness.screen.jsonl import encode_record
from harness.screen.log import PS_HEADER, find, log_lines, ps_rows, show_lines, verdict_lines
from harness.store import Store, home

LATEST = 20
WITH_MODEL, WITH_TIMES = 110, 80
"""Columns of a terminal that has room for the model's name beside the task; for the start and the turns."""


def ps(*, everything: bool, json: bool) -> int:
    rows = Store(home()).list()[::-1]
    shown = rows if everything else rows[:LATEST]
    if json:
        for row in shown:
            print(jsonlib.dumps({"v": 1, **asdict(row), "directory": str(row.directory)}))
    elif not rows:
        say("no session yet; `usermode run TASK` makes one")
    else:
        # What is read by a program is whole.
        width = get_terminal_size().columns if sys.stdout.isatty() else None
        cells = [PS_HEADER, *ps_rows(shown, datetime.now(UTC))]
        table([fitting(row, width) for row in cells], width=width)
        if len(shown) < len(rows):
            say(f"… and {len(rows) - len(shown)} older; --all shows them")
    return 0


def fitting(row: Sequence[str], width: int | None) -> Sequence[str]:
    """Of a row, what there is room for."""
    session, status, started, turns, changes, _, task = row
    if width is None or width >= WITH_MODEL:
        return row
    if width >= WITH_TIMES:
        return session, status, started, turns, changes, task
    return session, status, changes, task


def log(reference: str, *, json: bool) -> int:
    directory = Store(home()).session(reference)
    if json:
        for record in read(directory):
            print(encode_record(record))
        return 0
    for line in log_lines(read(directory)):
        print(line)
    return 0


def show(reference: str, which: str) -> int:
    directory = Store(home()).session(reference)
    for line in show_lines(find(read(directory), which)):
        print(line)
    return 0


def verify(reference: str, head: str | None) -> int:
    verdict = check(Store(home()).session(reference), head=head)
    for line in verdict_lines(verdict):
        print(line)
    return 0 if verdict.ok else 7
