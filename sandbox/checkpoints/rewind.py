"""Bringing a session's own tree back to a checkpoint, so that its review stays right.

While that is going on a mark lies in the store: a session in which it is found is half brought back, and the
same again finishes it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sandbox.checkpoints.errors import CheckpointError
from sandbox.checkpoints.packs import sync_directory
from sandbox.checkpoints.restore import Restore
from sandbox.checkpoints.store import Checkpoint, Store
from sandbox.checkpoints.tree import DIRECTORY, FILE, SPARSE, Node, decode, top
from sandbox.errors import SandboxError
from sandbox.workspace import beneath, manifest
from sandbox.workspace.quota import opened

MARK = "going-back"


@dataclass(frozen=True)
class BroughtBack:
    removed: int
    """Names taken away or replaced."""
    made: int
    """Files and links written."""
    mark: Path

    def done(self) -> None:
        """It is written down elsewhere: take the mark away."""
        self.mark.unlink(missing_ok=True)
        sync_directory(self.mark.parent)


def unfinished(session_dir: Path) -> int | None:
    """The checkpoint that the session was being brought back to when that was cut short."""
    try:
        return int((session_dir / "checkpoints" / MARK).read_text())
    except FileNotFoundError:
        return None


def bring_back(session_dir: Path, store: Store, target: Checkpoint) -> BroughtBack:
    """Make the tree what the checkpoint says; nothing may run in it. CheckpointError when it cannot be."""
    mark = store.directory / MARK
    fresh: dict[str, os.stat_result] = {}
    restore = Restore(store.packs, lambda path, made: fresh.__setitem__(path, made))
    try:
        mark.write_text(str(target.number))
        sync_directory(store.directory)
        with opened(session_dir) as tree, beneath.root(tree) as here:
            restore.run(here, target.root)
            os.sync()
    except (OSError, SandboxError) as error:
        raise CheckpointError(f"it cannot be brought back: {error}; the same again finishes it") from error
    _as_copied(session_dir, store, target, fresh)
    return BroughtBack(restore.removed, restore.made, mark)


def _as_copied(session_dir: Path, store: Store, target: Checkpoint, fresh: dict[str, os.stat_result]) -> None:
    """Tell the manifest of files that are again what was copied in: they are no changes."""
    if not fresh or 0 not in store.numbers() or not manifest.exists(session_dir):
        return
    known = manifest.load(session_dir)
    applied = manifest.applied_paths(session_dir)
    first = files_of(store, store.load(0), fresh)
    with manifest.AppliedLog(session_dir) as log:
        for path, node in files_of(store, target, fresh).items():
            base = known.entries.get(path)
            if base is None or base.kind != manifest.FILE or path in applied or first.get(path) != node:
                continue
            made = fresh[path]
            log.record(
                path,
                base._replace(
                    copy_mtime_ns=made.st_mtime_ns, copy_ctime_ns=made.st_ctime_ns, copy_ino=made.st_ino
                ),
            )


def files_of(store: Store, checkpoint: Checkpoint, paths: Iterable[str]) -> dict[str, Node]:
    """Those of these paths that are files there."""
    found = {}
    trees: dict[str, dict[str, Node]] = {
        "": dict(decode(store.packs.read(top(store.packs, checkpoint.root).digest)))
    }
    for path in paths:
        *directories, name = path.split("/")
        here = ""
        for part in directories:
            inner = trees.get(here, {}).get(part)
            here = f"{here}/{part}" if here else part
            if here not in trees and inner is not None and inner.kind == DIRECTORY:
                trees[here] = dict(decode(store.packs.read(inner.digest)))
        node = trees.get(here, {}).get(name)
        if node is not None and node.kind in (FILE, SPARSE):
            found[path] = node
    return found
