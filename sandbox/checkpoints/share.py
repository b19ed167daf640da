"""Sharing: checkpoints of one session in the store of another, and a workspace made from one.

Packs and the small files of checkpoints are never altered once they are there, so they are hard-linked: it
costs no bytes, and either session may collect its own names of them. The source may be running, and
collecting, meanwhile; it is only read.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from policies.schema import Limits
from sandbox.checkpoints import tree
from sandbox.checkpoints.errors import CheckpointError, Damaged
from sandbox.checkpoints.packs import SUFFIX, sync_directory
from sandbox.checkpoints.restore import Restore
from sandbox.checkpoints.rewind import files_of
from sandbox.checkpoints.store import DIRECTORY, Checkpoint, Store, file_of
from sandbox.errors import SandboxError
from sandbox.workspace import beneath, manifest
from sandbox.workspace.layout import upper_of, work_of
from sandbox.workspace.manifest import Manifest
from sandbox.workspace.quota import Kind, opened, prepare, release

_TRIES = 10
"""A collector that is at work replaces packs by others; it never does so ten times in a row."""


def link(source: Path, target: Path, numbers: Iterable[int]) -> None:
    """Give the session `target` all packs of `source`, and those of these checkpoints that are there.

    CheckpointError when the packs cannot be had.
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
        sync_directory(ours)
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


def complete(store: Store, checkpoint: Checkpoint) -> None:
    """Damaged unless every object of the checkpoint is in the store."""
    for digest in tree.reachable(store.packs, [checkpoint.root]):
        if digest not in store.packs:
            raise Damaged(f"object {digest.hex()} of checkpoint {checkpoint.number} is missing")


def plant(
    session_dir: Path,
    known: Manifest,
    store: Store,
    target: Checkpoint,
    limits: Limits,
    *,
    kind: Kind | None = None,
    mounted: bool = False,
) -> None:
    """Make the workspace of a session that has none yet what the checkpoint says.

    `known` is the manifest of the session that it was taken of: its review is the new one's too. Left
    `mounted` for a sandbox that is opened next; else nothing is, and all of it is on the disk.
    CheckpointError when it cannot be made; what was made until then is the caller's to remove.
    """
    fresh: dict[str, os.stat_result] = {}
    restore = Restore(store.packs, lambda path, made: fresh.__setitem__(path, made))
    try:
        prepare(session_dir, limits, uid=known.uid, gid=known.gid, kind=kind)
        try:
            if known.mode == "overlay":
                for made in (upper_of(session_dir), work_of(session_dir)):
                    made.mkdir(mode=0o700)
            with opened(session_dir) as path, beneath.root(path) as here:
                restore.run(here, target.root)
            manifest.save(session_dir, _as_copied(known, store, target, fresh))
        except BaseException:
            release(session_dir)
            raise
        if not mounted:
            release(session_dir)
    except (OSError, SandboxError) as error:
        raise CheckpointError(f"no workspace can be made of checkpoint {target.number}: {error}") from error


def _as_copied(
    known: Manifest, store: Store, target: Checkpoint, fresh: dict[str, os.stat_result]
) -> Manifest:
    """The manifest over files that were written anew: those that are what was copied in are no changes."""
    copied = {path: made for path, made in fresh.items() if path in known.entries}
    first = files_of(store, store.load(0), copied) if 0 in store.numbers() else {}
    entries = dict(known.entries)
    for path, node in files_of(store, target, copied).items():
        if first.get(path) == node and entries[path].kind == manifest.FILE:
            made = copied[path]
            entries[path] = entries[path]._replace(
                copy_mtime_ns=made.st_mtime_ns, copy_ctime_ns=made.st_ctime_ns, copy_ino=made.st_ino
            )
    return Manifest(known.source, known.uid, known.gid, entries, known.targets, known.excluded, known.mode)
