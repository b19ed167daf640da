"""`usermode diff`, `apply`, `discard`: what a session changed, reviewed and then accepted or dropped.

What would run on this machine later stands in a section of its own, with the reason.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from harness.commands.say import say, table
from harness.errors import JournalError, UsageError
from harness.lock import exclusive
from harness.store import Store, home
from sandbox.apply import apply as apply_changes
from sandbox.changes import Change, Review
from sandbox.changes import changes as changes_of
from sandbox.difftext import diff_text, selected
from sandbox.workspace import discard as discard_changes

LISTED = 200
"""Changes named in a section; the rest is counted."""


def diff(reference: str, paths: list[str] | None) -> int:
    directory = Store(home()).session(reference)
    review = _review(directory)
    chosen = set(selected(review, paths))
    shown = 0
    for title, section, whole in (
        ("changed", review.ordinary, True),
        ("RUNS ON THIS MACHINE LATER (applied only when named, or with --executable)", review.executes, True),
        ("inside .git (applied only when named)", review.git, False),
        ("never applied", review.blocked, False),
    ):
        listed = [change for change in section if change in chosen]
        shown += len(listed)
        if listed:
            say(f"== {title}: {len(listed)}")
            table(map(_row, listed[:LISTED]), indent="   ")
            if len(listed) > LISTED:
                say(f"   … and {len(listed) - LISTED} more")
            names = [change.path for change in listed if change.node != "directory"]
            for line in diff_text(directory, names) if whole and names else ():
                say(line)
    if not shown:
        say("nothing changed")
    return 0


def apply(reference: str, paths: list[str] | None, *, force: bool, executable: bool) -> int:
    directory = Store(home()).session(reference)
    with _ended(directory):
        review = _review(directory)
        report = apply_changes(directory, paths, force=force, executable=executable)
    for path in report.applied:
        say(f"applied  {_name(path)}")
    for path, reason in report.skipped:
        say(f"left     {_name(path)}: {reason}")
    if not report.applied and not report.skipped:
        say("nothing to apply")
    else:
        say(f"{len(report.applied)} applied to {review.source}, {len(report.skipped)} left")
    # What stands apart by default was not asked for; a conflict, or a path that was named, was.
    apart = {change.path for change in review.changes if change.executes or change.git or change.blocked}
    return 1 if any(paths or path not in apart for path, _ in report.skipped) else 0


def discard(reference: str) -> int:
    directory = Store(home()).session(reference)
    with _ended(directory):
        discard_changes(directory)
    say(f"{directory.name}: changes dropped; its journal stays")
    return 0


def _review(directory: Path) -> Review:
    try:
        return changes_of(directory)
    except FileNotFoundError as exc:
        missing = exc.filename or directory
        raise UsageError(f"session {directory.name} has no changes to show: {missing} is not there") from exc


@contextmanager
def _ended(directory: Path) -> Iterator[None]:
    """Hold the session's lock: neither its own process nor another apply may be at work."""
    try:
        with exclusive(directory):
            yield
    except JournalError as exc:
        if exc.code != "locked":
            raise
        raise UsageError(f"{exc}; `usermode kill {directory.name}` ends it") from exc


def _row(change: Change) -> Sequence[str]:
    why = change.blocked or change.executes or (f"CONFLICT: {change.conflict}" if change.conflict else "")
    return change.kind, _name(change.path), why


def _name(path: str) -> str:
    return os.fsencode(path).decode(errors="backslashreplace")
