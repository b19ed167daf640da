"""Storage for a session's copy: an exact disk and inode limit where the system can give one.

As root on Linux the copy lives in a file-system image of exactly the policy's size, mounted in the session's
directory: the guest gets ENOSPC, the host's disk is safe. Elsewhere it is a plain directory and `watchdog.py`
ends what outgrows the limit. Which of the two is stated in `Storage.kind` and fixed for the session's life.

Mounts are host state: they survive a killed harness, so `mounted_sessions` finds them for the reaper and
everything here works on what is there, in any process, one at a time under the session's lock file.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from policies.schema import Limits
from sandbox.errors import SandboxRefused
from sandbox.workspace import beneath
from sandbox.workspace.copyin import tree_of

Kind = Literal["quota image", "watched directory"]

_IMAGE = "workspace.img"
_MOUNTPOINT = "workspace"
_LOCK = "workspace.lock"
_PROGRAMS = "/usr/sbin:/usr/bin:/sbin:/bin"
_JOURNAL_MB = 16
_INODE_BYTES = 256
_PROGRAM_S = 60
_BUSY_TRIES = 20


@dataclass(frozen=True)
class Storage:
    session_dir: Path
    kind: Kind
    path: Path
    """What is mounted at /workspace."""
    inexact: str | None = None
    """Why the limit is not exact, as far as this process found out."""

    @property
    def exact(self) -> bool:
        """Whether the limit is kept by the file system itself; otherwise a Watchdog has to run."""
        return self.kind == "quota image"

    def release(self) -> None:
        """Unmount. The copy stays, and `opened` mounts it again when it is wanted. Idempotent."""
        release(self.session_dir)


def prepare(session_dir: Path, limits: Limits, *, uid: int, gid: int, kind: Kind | None = None) -> Storage:
    """Make empty storage for a new session, of the exact kind where possible or of the kind asked for.

    SandboxRefused when the kind asked for cannot be had, or the image cannot be made or mounted.
    """
    inexact = "asked for" if kind == "watched directory" else exact_unavailable()
    if kind == "quota image" and inexact:
        raise SandboxRefused(f"no exact workspace limit: {inexact}")
    mountpoint = session_dir / _MOUNTPOINT
    with _locked(session_dir):
        mountpoint.mkdir(mode=0o700)
        if inexact is None:
            inexact = _try_image(session_dir, limits)
        if kind == "quota image" and inexact:
            mountpoint.rmdir()
            raise SandboxRefused(f"no exact workspace limit: {inexact}")
        tree = tree_of(session_dir)
        tree.mkdir(mode=0o700)
        if os.geteuid() == 0:
            os.chown(tree, uid, gid)
    return Storage(session_dir, "watched directory" if inexact else "quota image", tree, inexact)


def storage_of(session_dir: Path) -> Storage:
    """The storage a session has. FileNotFoundError when it has none (never prepared, or discarded)."""
    (session_dir / _MOUNTPOINT).stat()
    image = (session_dir / _IMAGE).exists()
    return Storage(session_dir, "quota image" if image else "watched directory", tree_of(session_dir))


@contextmanager
def opened(session_dir: Path) -> Iterator[Path]:
    """The session's tree, mounted for as long as the block lasts, or as it is while its sandbox runs."""
    with _locked(session_dir):
        storage = storage_of(session_dir)
        mounted_here = storage.exact and not _is_mounted(session_dir)
        if mounted_here:
            _mount(session_dir)
        try:
            yield storage.path
        finally:
            if mounted_here:
                _unmount(session_dir)


def release(session_dir: Path) -> None:
    """Unmount a session's image if it is mounted, also one whose harness was killed."""
    with _locked(session_dir):
        if _is_mounted(session_dir):
            _unmount(session_dir)


def remove(session_dir: Path) -> None:
    """Remove the copy, whatever the guest left in it. Idempotent."""
    with _locked(session_dir), beneath.root(session_dir) as top:
        if _is_mounted(session_dir):
            _unmount(session_dir)
        beneath.remove_tree(top, _MOUNTPOINT)
        beneath.remove_tree(top, _IMAGE)


def mounted_sessions(store: Path) -> list[Path]:
    """Session directories beneath `store` whose image is mounted now, for the reaper to `release`."""
    top = store.resolve()
    return [path.parent for path in _mountpoints() if path.name == _MOUNTPOINT and top in path.parents]


@cache
def exact_unavailable() -> str | None:
    """Why this process cannot have an exact limit, or None when nothing is known to stand against it."""
    if not sys.platform.startswith("linux"):
        return "file-system images need Linux"
    if os.geteuid() != 0:
        return "mounting a file-system image needs root"
    for name in ("mkfs.ext4", "mount", "umount"):
        if shutil.which(name, path=_PROGRAMS) is None:
            return f"no {name} program (Debian: packages e2fsprogs and mount)"
    if not Path("/dev/loop-control").exists():
        return "no loop devices"
    return None


def _try_image(session_dir: Path, limits: Limits) -> str | None:
    """Make and mount the image; why not, with nothing left of it, where this process may not (in a container,
    say).
    """
    try:
        _make_image(session_dir / _IMAGE, limits)
        _mount(session_dir)
    except SandboxRefused as refused:
        (session_dir / _IMAGE).unlink()
        return str(refused)
    return None


def _make_image(image: Path, limits: Limits) -> None:
    """A sparse file holding an empty file system whose free space and inodes are the policy's limits."""
    # The limit is what the guest can store, so the file system's own tables come on top of it.
    tables_mb = limits.workspace_inodes * _INODE_BYTES // 2**20 + limits.workspace_mb // 50 + 8
    size_mb = limits.workspace_mb + tables_mb + _JOURNAL_MB
    with open(os.open(image, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        file.truncate(size_mb << 20)
    _run(
        "mkfs.ext4", "-q", "-F", "-b", "4096", "-m", "0", "-I", str(_INODE_BYTES),
        "-N", str(limits.workspace_inodes), "-J", f"size={_JOURNAL_MB}",
        "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard", "--", str(image),
    )  # fmt: skip


def _mount(session_dir: Path) -> None:
    options = "loop,nosuid,nodev,noatime,errors=remount-ro"
    _run(
        "mount", "-t", "ext4", "-o", options, "--", str(session_dir / _IMAGE), str(session_dir / _MOUNTPOINT)
    )


def _unmount(session_dir: Path) -> None:
    # A look from elsewhere (a file indexer, a backup) holds it for a moment; a lasting holder is an error.
    for left in reversed(range(_BUSY_TRIES)):
        try:
            _run("umount", "--", str(session_dir / _MOUNTPOINT))
            return
        except SandboxRefused:
            if not left or not _is_mounted(session_dir):
                raise
            time.sleep(0.05)


def _run(program: str, *arguments: str) -> None:
    path = shutil.which(program, path=_PROGRAMS)
    if path is None:
        raise SandboxRefused(f"no {program} program on this machine")
    done = subprocess.run(
        [path, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={"PATH": _PROGRAMS, "LC_ALL": "C"},
        timeout=_PROGRAM_S,
        check=False,
    )
    if done.returncode:
        said = " ".join(done.stderr.decode(errors="backslashreplace").split())
        raise SandboxRefused(f"{program} failed for the workspace's storage: {said}")


def _is_mounted(session_dir: Path) -> bool:
    return (session_dir / _MOUNTPOINT).resolve() in _mountpoints()


def _mountpoints() -> list[Path]:
    try:
        lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    except FileNotFoundError:
        return []
    return [Path(os.fsdecode(_unescaped(line.split(b" ")[4]))) for line in lines]


def _unescaped(field: bytes) -> bytes:
    """The kernel writes space, tab, newline and backslash of a path as three octal digits."""
    first, *rest = field.split(b"\\")
    return first + b"".join(bytes([int(part[:3], 8)]) + part[3:] for part in rest)


@contextmanager
def _locked(session_dir: Path) -> Iterator[None]:
    """One process at a time mounts, looks or unmounts. The lock ends with its holder, however that ends."""
    descriptor = os.open(session_dir / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        with suppress(OSError):
            os.close(descriptor)
