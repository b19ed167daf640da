"""Directory-descriptor file access: how the host touches a tree that the guest controls.

Every step opens one name beneath an open directory and never follows a symlink, so a directory that is
swapped for a link between two looks leads nowhere. Kinds are checked before an open (a FIFO or device is
never opened) and again after it (what was opened is what was looked at).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MAX_DEPTH = 128
"""Directories below the root. Bounds the descriptors a walk holds; deeper is reported, never entered."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
READ_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
"""Flags that make a file and never open one that is there."""

_MOST_NS = (1 << 63) - 1


class NotRegular(OSError):
    """A FIFO, socket, device, directory or symlink where a regular file was wanted, or it changed under our
    hands.
    """

    def __init__(self, name: str) -> None:
        super().__init__(errno.EINVAL, "not a regular file", name)


class LinkOnTheWay(NotADirectoryError):
    """A component of a path is a symlink; it was not followed."""

    def __init__(self, name: str) -> None:
        super().__init__(errno.ENOTDIR, "a symlink on the way", name)


class TooLarge(OSError):
    """More bytes than the caller was ready to read."""

    def __init__(self, name: str) -> None:
        super().__init__(errno.EFBIG, "larger than the bound", name)


@contextmanager
def root(path: str | os.PathLike[str]) -> Iterator[int]:
    """The descriptor of a directory that the caller trusts the path of."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def enter(parent: int, name: str) -> int:
    """Open one directory. LinkOnTheWay for a symlink, whatever it points to."""
    try:
        return os.open(name, _DIRECTORY, dir_fd=parent)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENOTDIR):
            raise
        seen = look(parent, name)
        if seen is not None and not stat.S_ISLNK(seen.st_mode):
            raise
        raise LinkOnTheWay(name) from None


@contextmanager
def parent_of(top: int, path: str) -> Iterator[tuple[int, str]]:
    """The open directory that holds `path`, and its last name, reached one component at a time from `top`."""
    *directories, name = components(path)
    here = os.dup(top)
    try:
        for component in directories:
            below = enter(here, component)
            os.close(here)
            here = below
        yield here, name
    finally:
        os.close(here)


def components(path: str) -> list[str]:
    """The names of a relative path. ValueError for one that could leave the root."""
    names = path.split("/")
    if not path or any(name in ("", ".", "..") or "\0" in name for name in names):
        raise ValueError(f"not a plain relative path: {path!r}")
    return names


def look(parent: int, name: str) -> os.stat_result | None:
    """The status of a name itself, None when nothing is there."""
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None


def open_regular(parent: int, name: str) -> tuple[int, os.stat_result]:
    """Open a regular file for reading; NotRegular for anything else. Never blocks, never touches a device."""
    seen = os.stat(name, dir_fd=parent, follow_symlinks=False)
    if not stat.S_ISREG(seen.st_mode):
        raise NotRegular(name)
    descriptor = os.open(name, READ_FILE, dir_fd=parent)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or (found.st_dev, found.st_ino) != (seen.st_dev, seen.st_ino):
            raise NotRegular(name)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, found


def read_regular(parent: int, name: str, limit: int) -> tuple[bytes, os.stat_result]:
    """All of a regular file of at most `limit` bytes, with its status; TooLarge for one that is longer or
    grows.
    """
    descriptor, found = open_regular(parent, name)
    try:
        if found.st_size > limit:
            raise TooLarge(name)
        parts: list[bytes] = []
        left = limit + 1
        while left and (part := os.read(descriptor, min(left, 1 << 20))):
            parts.append(part)
            left -= len(part)
        if not left:
            raise TooLarge(name)
        return b"".join(parts), found
    finally:
        os.close(descriptor)


def modified_ns(status: os.stat_result) -> int:
    """A file's mtime, the nearest that 64 bits tell: anybody can date one beyond the year 2262."""
    return max(-_MOST_NS - 1, min(status.st_mtime_ns, _MOST_NS))


def write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def same_content(left: int, right: int) -> bool:
    """Whether two open regular files hold the same bytes, from their present positions."""
    while True:
        a, b = os.read(left, 1 << 18), os.read(right, 1 << 18)
        if a != b:
            return False
        if not a:
            return True


def remove_tree(parent: int, name: str) -> None:
    """Remove whatever `name` is, however deep, wide or unreadable, touching nothing outside it.

    A directory met below MAX_DEPTH is moved up to the top first, so the descriptors held stay bounded.
    """
    seen = look(parent, name)
    if seen is None:
        return
    if not stat.S_ISDIR(seen.st_mode):
        os.unlink(name, dir_fd=parent)
        return
    top = _enter_to_remove(parent, name)
    try:
        _Emptier(top).empty(top, 0)
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=parent)


def _enter_to_remove(parent: int, name: str) -> int:
    """Open a directory of a tree being removed, giving its owner full access where the guest took it away."""
    try:
        here = enter(parent, name)
    except PermissionError:
        open_up(parent, name)
        here = enter(parent, name)
    if os.geteuid() != 0 and os.fstat(here).st_mode & 0o700 != 0o700:
        os.fchmod(here, 0o700)
    return here


def open_up(parent: int, name: str) -> None:
    """Give its owner full access to a directory that the guest closed; a link is not followed."""
    # chmod through the descriptor of the directory itself.
    handle = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        Path(f"/proc/self/fd/{handle}").chmod(0o700)
    finally:
        os.close(handle)


class _Emptier:
    def __init__(self, top: int) -> None:
        self._top = top
        self._hoisted = 0

    def empty(self, here: int, depth: int) -> None:
        # Listed again until nothing is left: removing while listing may skip names, and hoisting adds some.
        found = True
        while found:
            found = False
            with os.scandir(here) as entries:
                for entry in entries:
                    found = True
                    if entry.is_dir(follow_symlinks=False):
                        self._remove_directory(here, entry.name, depth)
                    else:
                        os.unlink(entry.name, dir_fd=here)

    def _remove_directory(self, here: int, name: str, depth: int) -> None:
        """Remove a directory, or move it to the top when it lies deep."""
        if depth >= MAX_DEPTH:
            os.close(_enter_to_remove(here, name))  # moving a directory needs write permission on itself
            while True:
                self._hoisted += 1
                target = f".hoisted-{self._hoisted}"
                if look(self._top, target) is None:
                    break
            os.rename(name, target, src_dir_fd=here, dst_dir_fd=self._top)
            return
        below = _enter_to_remove(here, name)
        try:
            self.empty(below, depth + 1)
        finally:
            os.close(below)
        os.rmdir(name, dir_fd=here)
