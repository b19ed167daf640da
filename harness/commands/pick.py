"""`usermode apply --interactive`: each change is shown and answered for by itself.

Only a typed yes takes a change: Enter, an end of input and anything unknown leave it. What was typed before a
question stood on the screen does not answer it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.commands.changelist import name, row
from harness.commands.say import say, table
from harness.errors import UsageError
from sandbox.workspace.compare import Change, Review
from sandbox.workspace.difftext import diff_text

QUESTION = "apply this? y yes · n no (Enter) · d show it · q leave the rest: "


@dataclass(frozen=True)
class Picked:
    paths: tuple[str, ...]
    left: tuple[str, ...]
    """Asked about, or never reached."""


def pick(directory: Path, review: Review, changes: Sequence[Change]) -> Picked:
    """Ask about each of these changes that can be applied at all. UsageError without a terminal."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("--interactive needs a terminal; name the paths to apply instead")
    askable = [change for change in changes if not change.blocked]
    for change in changes:
        if change.blocked:
            say(f"never applied: {name(change.path)}: {change.blocked}")
    chosen: list[str] = []
    for number, change in enumerate(askable, 1):
        say()
        say(f"{number} of {len(askable)}" + (" · RUNS ON THIS MACHINE LATER" if change.executes else ""))
        table([row(change)], indent="   ")
        answer = _answer(directory, review, change)
        if answer == "q":
            break
        if answer == "y":
            chosen.append(change.path)
    return Picked(tuple(chosen), tuple(change.path for change in askable if change.path not in chosen))


def _answer(directory: Path, review: Review, change: Change) -> str:
    while True:
        _forget_what_was_typed()
        sys.stdout.write(QUESTION)
        sys.stdout.flush()
        answer = sys.stdin.readline()
        if not answer:
            say()
            return "q"
        answer = answer.strip().lower()
        if answer != "d":
            return answer
        for line in diff_text(directory, review=Review(review.source, (change,))):
            say(line)


def _forget_what_was_typed() -> None:
    import termios

    termios.tcflush(sys.stdin, termios.TCIFLUSH)
