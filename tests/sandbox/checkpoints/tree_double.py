"""A session's tree in a plain directory, and pictures of it to compare."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from sandbox.checkpoints.restore import Restore
from sandbox.checkpoints.store import Bounds, Checkpoint, Writer
from sandbox.workspace import beneath

WIDE = Bounds(megabytes=64, count=50)


class Tree:
    """A session directory with storage that is a plain directory, as on a machine without loop devices."""

    def __init__(self, session_dir: Path, bounds: Bounds = WIDE) -> None:
        self.session_dir = session_dir
        self.path = session_dir / "workspace" / "tree"
        self.path.mkdir(parents=True)
        self.writer = Writer(session_dir, bounds)

    def take(self, **more: bool) -> Checkpoint:
        """A checkpoint; there has to be something new."""
        taken = self.writer.take(**more)
        assert taken is not None
        return taken

    def back(self, checkpoint: Checkpoint) -> Restore:
        restore = Restore(self.writer.packs)
        with beneath.root(self.path) as top:
            restore.run(top, checkpoint.root)
        return restore

    def write(self, path: str, content: str | bytes, mode: int = 0o644) -> Path:
        target = self.path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content if isinstance(content, bytes) else content.encode())
        target.chmod(mode)
        return target


def picture(top: Path) -> dict[bytes, tuple[object, ...]]:
    """All that a restore has to bring back, by path; of holes only that they read as zeros."""
    seen: dict[bytes, tuple[object, ...]] = {}

    def add(path: Path) -> None:
        status = path.lstat()
        owner = (status.st_uid, status.st_gid)
        name = os.fsencode(path.relative_to(top))
        if stat.S_ISDIR(status.st_mode):
            seen[name] = ("directory", stat.S_IMODE(status.st_mode), *owner)
            for item in path.iterdir():
                add(item)
        elif stat.S_ISLNK(status.st_mode):
            seen[name] = ("link", path.readlink(), *owner)
        else:
            with open(path, "rb") as file:
                content = file.read(8 << 20)
            seen[name] = (
                "file", stat.S_IMODE(status.st_mode), *owner, status.st_size, status.st_mtime_ns, content
            )  # fmt: skip

    add(top)
    return seen
