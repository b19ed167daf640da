"""`usermode diff --from N --to M`: what changed between two checkpoints of a session."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Sequence
from pathlib import Path

from harness.commands.changelist import name
from harness.commands.rewind import checked, journalled, refuse_bound
from harness.commands.say import say, table
from harness.errors import UsageError
from harness.patch import hunks
from harness.store import Store, home
from harness.words import amount, counted
from sandbox.checkpoints.compare import Difference, differences
from sandbox.checkpoints.errors import CheckpointError
from sandbox.checkpoints.store import Store as Checkpoints

_TOTAL_CHARS = 32 << 20
"""After this much, differences are named and not shown."""


def between(
    reference: str, since: int, until: int | None, paths: Sequence[str], *, stat: bool, json: bool
) -> int:
    directory = Store(home()).session(reference)
    refuse_bound(directory)
    try:
        with Checkpoints(directory) as checkpoints:
            _say(directory, checkpoints, (since, until), paths, stat=stat, json=json)
    except CheckpointError as exc:
        raise UsageError(f"session {directory.name}: {exc}") from exc
    return 0


def _say(
    directory: Path,
    checkpoints: Checkpoints,
    ends: tuple[int, int | None],
    paths: Sequence[str],
    *,
    stat: bool,
    json: bool,
) -> None:
    _, known = journalled(directory)
    since = checked(checkpoints, known, ends[0])
    until = checked(checkpoints, known, ends[1] if ends[1] is not None else next(reversed(known.keys()), 0))
    found = [
        one
        for one in differences(checkpoints.packs, since.root, until.root)
        if not paths or any(one.path == path or one.path.startswith(f"{path}/") for path in _plain(paths))
    ]
    if json:
        for one in found:
            print(jsonlib.dumps(_fields(one, since.number, until.number)).replace("\x7f", "\\u007f"))
        return
    if not found:
        say(f"nothing changed from checkpoint {since.number} to {until.number}")
        return
    say(f"== from checkpoint {since.number} to {until.number}: {counted(len(found), 'change')}")
    table([(one.kind, name(one.path), _what(one)) for one in found], indent="   ")
    shown = 0
    for one in () if stat else found:
        if shown > _TOTAL_CHARS:
            say("# the diff is too long; ask for paths to see the rest")
            return
        for line in hunks(checkpoints.packs, one):
            shown += len(line)
            say(line)


def _plain(paths: Sequence[str]) -> list[str]:
    return [path.removeprefix("./").rstrip("/") for path in paths]


def _what(one: Difference) -> str:
    if one.node != "file" or one.after is None:
        return one.node
    return f"{amount(one.after.size, 'B')}{' +x' if one.after.mode & 0o100 else ''}"


def _fields(one: Difference, since: int, until: int) -> dict[str, object]:
    return {
        "v": 1,
        "kind": "difference",
        "from": since,
        "to": until,
        "path": one.path,
        "change": one.kind,
        "node": one.node,
        "size": None if one.after is None else one.after.size,
        "mode_before": None if one.before is None else f"{one.before.mode:04o}",
        "mode": None if one.after is None else f"{one.after.mode:04o}",
    }
