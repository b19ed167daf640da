"""Sharing: checkpoints of one session in the store of another, and a workspace made from one.

Packs and the small files of checkpoints are never altered once they are there, so they are hard-linked: it
costs no bytes, and either session may collect its own names of them. The source may be running, and
collecting, meanwhile; it is only read.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from policies.schema import Limits
from sandbox.checkpoints.compare import same_files
from sandbox.checkpoints.errors import CheckpointError
from sandbox.checkpoints.packs import SUFFIX
from sandbox.checkpoints.restore import Restore
from sandbox.checkpoints.store import DIRECTORY, Checkpoint, Store, file_of
from sandbox.errors import SandboxError
from sandbox.workspace import beneath, manifest
from sandbox.workspace.layout import upper_of, work_of
from sandbox.workspace.manifest import Manifest
from sandbox.workspace.quota import opened, prepare, release

_TRIES = 10
"""A collector that is at work replaces packs by others; it never does so ten times in a row."""


def link(source: Path, target: Path, numbers: Iterable[int]) -> None:
    """Give the session `target` all packs of `source`, and those of these checkpoints that are there.

    The names are durable once the store's directory is synced. CheckpointError when the packs cannot be had.
    """
    theirs, ours = source / DIRECTORY, target / DIRECTORY
    ours.mkdir(mode=0o700, exist_ok=True)
    ours.chmod(0o700)
    try:
        for number in numbers:
            _linked(file_of(theirs, number), file_of(ours, number))
        for _ in range(_TRIES):
            # What a collector took away after it was listed stands in a newer pack.
            if all(_linked(path, ours / path.name) for path in sorted(theirs.glob(f"*{SUFFIX}"))):
                break
        else:
            raise CheckpointError("the checkpoints are being collected right now; try again")
    except OSError as error:
        raise CheckpointError(f"the checkpoints cannot be shared: {error.strerror or error}") from error


def _linked(source: Path, target: Path) -> bool:
    try:
        os.link(source, target, follow_symlinks=False)
    except FileExistsError:
        return True
    except FileNotFoundError:
        return False
    return True


def plant(session_dir: Path, known: Manifest, store: Store, target: Checkpoint, limits: Limits) -> None:
    """Make the workspace of a session that has none yet what the checkpoint says; nothing stays mounted.

    `known` is the manifest of the session that it was taken of: its review is the new one's too.
    CheckpointError when it cannot be made; what was made until then is the caller's to remove.
    """
    try:
        ground(session_dir, known, limits)
        fill(session_dir, known, store, target)
    finally:
        release(session_dir)


def ground(session_dir: Path, known: Manifest, limits: Limits) -> None:
    """The first half: storage, empty and mounted. CheckpointError as `plant`."""
    try:
        prepare(session_dir, limits, uid=known.uid, gid=known.gid)
        if known.mode == "overlay":
            for made in (upper_of(session_dir), work_of(session_dir)):
                made.mkdir(mode=0o700)
    except (OSError, SandboxError) as error:
        raise CheckpointError(f"a workspace cannot be made: {error}") from error


def fill(session_dir: Path, known: Manifest, store: Store, target: Checkpoint) -> None:
    """The second half: what stands in it, and its manifest. CheckpointError as `plant`."""
    fresh: dict[str, os.stat_result] = {}
    restore = Restore(store.packs, fresh.__setitem__)
    try:
        with opened(session_dir) as top, beneath.root(top) as here:
            restore.run(here, target.root)
        entries = dict(known.entries)
        for path in same_files(store.packs, store.load(0).root, target.root) if 0 in store.numbers() else ():
            # Written anew, and still what was copied in: no change.
            if path in fresh and path in entries and entries[path].kind == manifest.FILE:
                entries[path] = entries[path].copied_again(fresh[path])
        manifest.save(session_dir, replace(known, entries=entries))
    except (OSError, SandboxError) as error:
        raise CheckpointError(f"no workspace can be made of checkpoint {target.number}: {error}") from error
