"""A disk of a few megabytes, which a test can fill and empty."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PAGE = 4096


class Disk:
    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / "ballast"

    def fill(self, *, leave: int = 0) -> None:
        """Until nothing fits any more, but for `leave` pages."""
        with self._ballast.open("ab", buffering=0) as file:
            try:
                while file.write(bytes(16 * PAGE)):
                    pass
            except OSError as exc:
                if exc.errno != errno.ENOSPC:
                    raise
            file.truncate(max(0, file.tell() // PAGE - leave) * PAGE)

    def empty(self) -> None:
        self._ballast.unlink(missing_ok=True)


@contextmanager
def small_disk(tmp_path: Path, mb: int) -> Iterator[Disk]:
    """Needs root on Linux, as all that mounts does."""
    path = tmp_path / "disk"
    path.mkdir()
    options = f"size={mb}m,mode=0700,nosuid,nodev"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "--", "usermode-test", str(path)], check=True)
    try:
        yield Disk(path)
    finally:
        # Lazily: a container that is started elsewhere holds a copy of every mount for a moment.
        subprocess.run(["umount", "--lazy", "--", str(path)], check=True)
