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
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from policies.schema import Limits
from sandbox.errors import SandboxRefused
from sandbox.workspace import beneath, mounts
from sandbox.workspace.layout import BOUND, IMAGE, LOCK, MOUNTPOINT, PROMISED, TREE, tree_of, upper_of

Kind = Literal["quota image", "watched directory", "your directory"]
"""The last is no copy at all: the user's own, for work that is trusted."""

_JOURNAL_MB = 16
_INODE_BYTES = 256
_STATE_AT = 1024 + 58
"""`s_state` of an ext4 superblock."""
_HAS_ERRORS = 2


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

    @property
    def grows(self) -> Path:
        """What the session's writes fill, for a Watchdog to watch."""
        upper = upper_of(self.session_dir)
        return upper if upper.is_dir() else self.path

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
    mountpoint = session_dir / MOUNTPOINT
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


def prepare_bound(session_dir: Path, source: Path) -> Storage:
    """No storage at all: the session works on the user's own directory, and only its path is kept."""
    with _locked(session_dir):
        (session_dir / MOUNTPOINT).mkdir(mode=0o700)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with open(os.open(session_dir / BOUND, flags, 0o600), "wb") as file:
            file.write(os.fsencode(source))
    return Storage(session_dir, "your directory", source, "it is your own directory")


def bound_to(session_dir: Path) -> Path | None:
    """The user's own directory that the session worked on; None for a session with a copy."""
    try:
        return Path(os.fsdecode((session_dir / BOUND).read_bytes()))
    except FileNotFoundError:
        return None


def storage_of(session_dir: Path) -> Storage:
    """The storage a session has. FileNotFoundError when it has none (never prepared, or discarded)."""
    (session_dir / MOUNTPOINT).stat()
    if (own := bound_to(session_dir)) is not None:
        return Storage(session_dir, "your directory", own)
    image = (session_dir / IMAGE).exists()
    return Storage(session_dir, "quota image" if image else "watched directory", tree_of(session_dir))


def mount_again(session_dir: Path) -> Storage:
    """The storage a session has, mounted where it has to be. FileNotFoundError when it has none."""
    with _locked(session_dir):
        storage = storage_of(session_dir)
        if storage.exact and not _is_mounted(session_dir):
            _mount(session_dir)
        storage.path.stat()
        return storage


@contextmanager
def opened(session_dir: Path, *, making: bool = False) -> Iterator[Path]:
    """The session's tree, mounted for as long as the block lasts, or as it is while its sandbox runs.

    Of an overlay session it is the upper directory, in which only what was written stands. SandboxRefused of
    one that is only promised, but for who is `making` it: what is missing there would look deleted.
    """
    with _locked(session_dir):
        if not making:
            refuse_promised(session_dir)
        storage = storage_of(session_dir)
        mounted_here = storage.exact and not _is_mounted(session_dir)
        if mounted_here:
            _mount(session_dir)
        try:
            yield storage.grows
        finally:
            if mounted_here:
                _unmount(session_dir)


def promised(session_dir: Path) -> bool:
    """Whether the workspace has still to be made of a checkpoint, or was not made to its end."""
    return (session_dir / PROMISED).exists()


def refuse_promised(session_dir: Path) -> None:
    """SandboxRefused of a workspace that is only promised."""
    if promised(session_dir):
        raise SandboxRefused(
            f"the workspace of session {session_dir.name} is not made yet; "
            f"`usermode diff {session_dir.name}` or `usermode resume` makes it"
        )


def damaged(session_dir: Path) -> bool:
    """Whether the kernel has noted in the image that writes to it failed: the disk was full, or broke."""
    try:
        with open(session_dir / IMAGE, "rb") as image:
            image.seek(_STATE_AT)
            return bool(int.from_bytes(image.read(2), "little") & _HAS_ERRORS)
    except FileNotFoundError:
        return False


def release(session_dir: Path) -> None:
    """Unmount what of a session's workspace is mounted, also where its harness was killed."""
    with _locked(session_dir):
        _unmount(session_dir)


def flush(session_dir: Path) -> None:
    """Bring what the copy holds, which is mounted, to the disk. SandboxRefused when that fails."""
    if storage_of(session_dir).exact:
        # Its own file system alone: the rest of the machine's need not be waited for.
        mounts.run("sync", "--file-system", "--", str(session_dir / MOUNTPOINT))
    else:
        os.sync()


def remove(session_dir: Path, *, making: bool = False) -> None:
    """Remove the copy, whatever the guest left in it, and unless it is being made the promise of one.
    Idempotent.
    """
    with _locked(session_dir), beneath.root(session_dir) as top:
        _unmount(session_dir)
        for name in (MOUNTPOINT, IMAGE, BOUND, *(() if making else (PROMISED,))):
            beneath.remove_tree(top, name)


def mounted_sessions(store: Path) -> list[Path]:
    """Session directories beneath `store` of which something is mounted now, for the reaper to `release`."""
    top = store.resolve()
    found = (path.parent if path.name == TREE else path for path in mounts.mountpoints())
    sessions = (path.parent for path in found if path.name == MOUNTPOINT and top in path.parents)
    return list(dict.fromkeys(sessions))


@cache
def exact_unavailable() -> str | None:
    """Why this process cannot have an exact limit, or None when nothing is known to stand against it."""
    if not sys.platform.startswith("linux"):
        return "file-system images need Linux"
    if os.geteuid() != 0:
        return "mounting a file-system image needs root"
    for name in ("mkfs.ext4", "mount", "umount"):
        if shutil.which(name, path=mounts.PROGRAMS) is None:
            return f"no {name} program (Debian: packages e2fsprogs and mount)"
    if not Path("/dev/loop-control").exists():
        return "no loop devices"
    return None


def _try_image(session_dir: Path, limits: Limits) -> str | None:
    """Make and mount the image; why not, with nothing left of it, where this process may not (in a container,
    say).
    """
    try:
        _make_image(session_dir / IMAGE, limits)
        _mount(session_dir)
    except SandboxRefused as refused:
        (session_dir / IMAGE).unlink()
        return str(refused)
    return None


def _make_image(image: Path, limits: Limits) -> None:
    """A sparse file holding an empty file system whose free space and inodes are the policy's limits."""
    # The limit is what the guest can store, so the file system's own tables come on top of it.
    tables_mb = limits.workspace_inodes * _INODE_BYTES // 2**20 + limits.workspace_mb // 50 + 8
    size_mb = limits.workspace_mb + tables_mb + _JOURNAL_MB
    with open(os.open(image, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        file.truncate(size_mb << 20)
    mounts.run(
        "mkfs.ext4", "-q", "-F", "-b", "4096", "-m", "0", "-I", str(_INODE_BYTES),
        "-N", str(limits.workspace_inodes), "-J", f"size={_JOURNAL_MB}",
        "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard", "--", str(image),
    )  # fmt: skip


def _mount(session_dir: Path) -> None:
    options = "loop,nosuid,nodev,noatime,errors=remount-ro"
    mounts.run(
        "mount", "-t", "ext4", "-o", options, "--", str(session_dir / IMAGE), str(session_dir / MOUNTPOINT)
    )


def _unmount(session_dir: Path) -> None:
    """The overlay first, if there is one: it holds the volume that it writes to."""
    for path in (tree_of(session_dir), session_dir / MOUNTPOINT):
        if mounts.is_mounted(path):
            mounts.unmount(path)


def _is_mounted(session_dir: Path) -> bool:
    return mounts.is_mounted(session_dir / MOUNTPOINT)


@contextmanager
def _locked(session_dir: Path) -> Iterator[None]:
    """One process at a time mounts, looks or unmounts. The lock ends with its holder, however that ends."""
    descriptor = os.open(session_dir / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        with suppress(OSError):
            os.close(descriptor)
