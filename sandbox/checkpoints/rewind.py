"""Bringing a session's own tree back to a checkpoint, so that its review stays right.

While that is going on a mark lies in the store: a session in which it is found is half brought back, and the
same again finishes it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from sandbox.checkpoints.compare import same_files
from sandbox.checkpoints.damage import refuse_damaged
from sandbox.checkpoints.errors import CheckpointError
from sandbox.checkpoints.packs import sync_directory, write_whole
from sandbox.checkpoints.restore import Restore
from sandbox.checkpoints.store import DIRECTORY, Checkpoint, Store
from sandbox.errors import SandboxError, SandboxRefused
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


def unfinished(session_dir: Path) -> str | None:
    """The checkpoint that the session was being brought back to when that was cut short; `N` where the mark
    cannot be read, and then it is any.
    """
    try:
        number = (session_dir / DIRECTORY / MARK).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return number.decode() if number.isdigit() else "N"


def bring_back(session_dir: Path, store: Store, target: Checkpoint) -> BroughtBack:
    """Make the tree what the checkpoint says; nothing may run in it. CheckpointError when it cannot be; where
    that is for what is stored, nothing was touched.
    """
    mark = store.directory / MARK
    fresh: dict[str, os.stat_result] = {}
    restore = Restore(store.packs, fresh.__setitem__)
    refuse_damaged(store, target, f"usermode rewind {session_dir.name} --to")
    try:
        write_whole(mark, str(target.number).encode())
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
    try:
        known = manifest.load(session_dir).entries
    except SandboxRefused:
        return  # Nothing of this session can be reviewed; whoever tries is told.
    applied = manifest.applied_paths(session_dir)
    with manifest.AppliedLog(session_dir) as log:
        for path in same_files(store.packs, store.load(0).root, target.root):
            if path in fresh and path in known and known[path].kind == manifest.FILE and path not in applied:
                log.record(path, known[path].copied_again(fresh[path]))
