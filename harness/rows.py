"""What `ps` shows of a session: read off the first and the last line of its journal, so it stays quick with
long ones.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from harness.errors import JournalError
from harness.events import Rewound, SessionEnded, SessionStarted
from harness.inbox import Inbox
from harness.journal.lock import locked
from harness.journal.reading import regular
from harness.journal.record import FILE, MAX_LINE, BadLine, Record, decode
from harness.left import noted
from sandbox.workspace.quota import storage_of

# How every line of an assistant's message begins, after the members that differ.
_TURN = b'"entry":{"kind":"message","message":{"role":"assistant"'
_READ = b'"entry":{"kind":"message","message":{"role":"user"'
_PROMPTS = tuple(
    b'"entry":{"kind":"' + kind + b'"' for kind in (b"prompt_queued", b"prompt_dropped", b"rewound")
)

Status = Literal["running", "ended", "interrupted", "rewound", "forked", "empty", "damaged"]


@dataclass(frozen=True)
class SessionRow:
    """What `ps` shows of a session. Strings in it come from the journal and are not safe to print."""

    id: str
    directory: Path
    status: Status
    """`interrupted`: not running, and nobody wrote its end; `rewound`: taken back, and not gone on with
    since; `forked`: all there is was another session's; `empty`: nothing was journalled yet."""
    ended: str = ""
    """The status of its end: done, failed, budget, …"""
    task: str = ""
    """First line."""
    model: str = ""
    started: str = ""
    """RFC 3339, UTC."""
    turns: int = 0
    changes: int | None = None
    """What is left to review of the workspace's; None before the end."""
    note: str = ""
    """Why it is damaged."""
    parent: str = ""
    """The session that started it, of a child."""
    waiting: int = 0
    """Prompts that the model has not read."""


def row_of(directory: Path) -> SessionRow:
    """What is known of the session in this directory."""
    running = locked(directory)
    status: Status
    try:
        with regular(directory / FILE) as journal:
            first, last = first_record(journal), _last(journal)
            ended = isinstance(last and last.entry, SessionEnded)
            turns, waiting = (0, 0) if ended else _so_far(journal)
    except FileNotFoundError:
        first, last, turns, waiting = None, None, 0, 0
    except (OSError, BadLine, JournalError) as exc:
        status = "running" if running else "damaged"
        return SessionRow(directory.name, directory, status, note=str(exc))
    if first is None:
        return SessionRow(directory.name, directory, "running" if running else "empty")
    task, model, parent = "", "", ""
    if isinstance(first.entry, SessionStarted):
        task, model = first.entry.task.strip().split("\n", 1)[0], first.entry.model
        parent = "" if first.entry.parent is None else first.entry.parent.session
    if last is not None and isinstance(last.entry, SessionEnded):
        end = last.entry
        known = (end.status, task, model, first.ts, end.turns, _left(directory, end.changes))
        return SessionRow(directory.name, directory, "ended", *known, parent=parent, waiting=end.waiting)
    status = "running" if running else _left_as(first, last)
    known_so_far = ("", task, model, first.ts, turns)
    return SessionRow(directory.name, directory, status, *known_so_far, parent=parent, waiting=waiting)


def _left_as(first: Record, last: Record | None) -> Status:
    """What nobody runs, and nobody wrote the end of."""
    if last is not None and isinstance(last.entry, Rewound):
        return "rewound"
    return "forked" if _only_forked(first, last) else "interrupted"


def first_record(journal: BinaryIO) -> Record | None:
    journal.seek(0)
    line = journal.readline(MAX_LINE + 1)
    return decode(line, None) if line.endswith(b"\n") else None


def _last(journal: BinaryIO) -> Record | None:
    """The record of the last whole line: a torn tail after it does not count."""
    end = journal.seek(0, os.SEEK_END)
    tail, start = b"", end
    while start > 0 and end - start <= MAX_LINE:
        start = max(0, start - max(1 << 16, end - start))
        journal.seek(start)
        tail = journal.read(end - start)
        lines = tail[: tail.rfind(b"\n") + 1].splitlines(keepends=True)
        # The first piece may be the rest of a longer line.
        whole = lines if start == 0 else lines[1:]
        if whole:
            return _unless_torn(whole)
    return None


def _unless_torn(lines: list[bytes]) -> Record | None:
    try:
        return decode(lines[-1], None)
    except BadLine as exc:
        if exc.unparsable and len(lines) > 1:
            return decode(lines[-2], None)
        raise


def _left(directory: Path, changes: int) -> int:
    """Of this many at the end: none once they were dropped, or were a child's, whose copy is removed."""
    try:
        storage_of(directory)
    except FileNotFoundError:
        return 0
    since = noted(directory)
    return changes if since is None else since


def _only_forked(first: Record, last: Record | None) -> bool:
    """Whether nothing was written since the session was made from another one."""
    forked = first.entry.forked if isinstance(first.entry, SessionStarted) else None
    return forked is not None and last is not None and last.seq == 1 + forked.entries


def _so_far(journal: BinaryIO) -> tuple[int, int]:
    """The model's replies, and the prompts that it has not read. Only lines about those are taken apart."""
    turns, inbox = 0, Inbox()
    journal.seek(0)
    for line in journal:
        head = line[:400]
        turns += _TURN in head
        if any(kind in head for kind in _PROMPTS) or (len(inbox) and _READ in head):
            with contextlib.suppress(BadLine):
                inbox.feed(decode(line, None).entry)
    return turns, len(inbox)
