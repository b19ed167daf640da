"""Mounts of the host: what is mounted, and the system's own programs to change that."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from sandbox.errors import SandboxRefused

PROGRAMS = "/usr/sbin:/usr/bin:/sbin:/bin"
_PROGRAM_S = 60
_BUSY_TRIES = 20


def run(program: str, *arguments: str, descriptors: Sequence[int] = ()) -> None:
    """Run one of the system's programs, with these open in it; SandboxRefused with what it said."""
    path = shutil.which(program, path=PROGRAMS)
    if path is None:
        raise SandboxRefused(f"no {program} program on this machine")
    done = subprocess.run(
        [path, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={"PATH": PROGRAMS, "LC_ALL": "C"},
        timeout=_PROGRAM_S,
        check=False,
        pass_fds=descriptors,
    )
    if done.returncode:
        said = " ".join(done.stderr.decode(errors="backslashreplace").split())
        raise SandboxRefused(f"{program} failed for the workspace's storage: {said}")


def is_mounted(path: Path) -> bool:
    return path.resolve() in mountpoints()


def unmount(path: Path) -> None:
    """SandboxRefused while something lastingly holds it."""
    # A look from elsewhere (a file indexer, a backup) holds it for a moment; a lasting holder is an error.
    for left in reversed(range(_BUSY_TRIES)):
        try:
            run("umount", "--", str(path))
            return
        except SandboxRefused:
            if not left or not is_mounted(path):
                raise
            time.sleep(0.05)


def mountpoints() -> list[Path]:
    try:
        lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    except FileNotFoundError:
        return []
    return [Path(os.fsdecode(_unescaped(line.split(b" ")[4]))) for line in lines]


def _unescaped(field: bytes) -> bytes:
    """The kernel writes space, tab, newline and backslash of a path as three octal digits."""
    first, *rest = field.split(b"\\")
    return first + b"".join(bytes([int(part[:3], 8)]) + part[3:] for part in rest)
