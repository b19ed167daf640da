"""A session's changes as rows for a person and as lines for a program."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.commands.say import say, table
from harness.words import amount, counted
from sandbox.workspace.compare import Change, Review
from sandbox.workspace.difftext import line_counts

_SECTIONS = {
    "ordinary": "changed",
    "executes": "runs on this machine later",
    "git": "inside .git",
    "blocked": "never applied",
}


def row(change: Change) -> Sequence[str]:
    """Kind, path, what it is, and what speaks against taking it."""
    return change.kind, name(change.path), _what(change), why(change)


def why(change: Change) -> str:
    reasons = [change.blocked or change.executes or "", change.conflict and f"CONFLICT: {change.conflict}"]
    if change.target is not None:
        reasons.insert(0, f"-> {name(change.target)}")
    return "; ".join(reason for reason in reasons if reason)


def name(path: str) -> str:
    return os.fsencode(path).decode(errors="backslashreplace")


def _what(change: Change) -> str:
    if change.node != "file":
        return change.node
    if change.seen is None:
        return f"was {amount(change.yours[1], 'B')}" if change.yours else "file"
    return f"{amount(change.size, 'B')}{' +x' if change.executable else ''}"


def say_stat(directory: Path, review: Review) -> None:
    """Lines added and removed, a change a row, and a sum for each section."""
    counts = line_counts(directory, review)
    rows = []
    for change in review.changes:
        lines = counts.get(change.path)
        text = "" if lines is None else f"+{lines[0]} -{lines[1]}"
        rows.append((change.kind, name(change.path), text, _what(change), why(change)))
    table(rows)
    for section, title in _SECTIONS.items():
        within = [change for change in review.changes if change.section == section]
        if within:
            added, removed = (
                sum(counts.get(change.path, (0, 0))[side] for change in within) for side in (0, 1)
            )
            say(f"{title}: {counted(len(within), 'change')}, +{added} -{removed}")


def say_json(directory: Path, review: Review) -> None:
    """One versioned object a line, ASCII only; a path's undecodable bytes stand as lone surrogates."""
    counts = line_counts(directory, review)
    for change in review.changes:
        print(json.dumps(_fields(change, counts), separators=(",", ":")).replace("\x7f", "\\u007f"))


def _fields(change: Change, counts: Mapping[str, tuple[int, int]]) -> dict[str, object]:
    added, removed = counts.get(change.path, (None, None))
    return {
        "v": 1,
        "kind": "change",
        "path": change.path,
        "change": change.kind,
        "node": change.node,
        "section": change.section,
        "size": change.size,
        "mode": None if change.seen is None else f"{change.seen[0] & 0o7777:04o}",
        "your_mode": None if change.yours is None else f"{change.yours[0] & 0o7777:04o}",
        "target": change.target,
        "executes": change.executes,
        "blocked": change.blocked,
        "conflict": change.conflict,
        "lines_added": added,
        "lines_removed": removed,
    }
