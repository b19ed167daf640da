"""Copying one file beneath two open directories: what `copyin` does twenty thousand times in a few seconds.

Every system call here is paid once a file, so there is one look at each side, one read for a small file, and
the mode is only set where the umask took something from it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pathspec import GitIgnoreSpec

from sandbox.errors import SandboxRefused
from sandbox.workspace import beneath, secretfiles
from sandbox.workspace.manifest import FILE, REWRITTEN, Entry

_CHUNK = 1 << 18
"""Bytes read at once; git configuration larger than this cannot be looked through and stays out."""


class OverLimit(Exception):
    """The copy is past a limit, or its volume is full."""


@dataclass(frozen=True)
class Rules:
    """What stays out by its name: the policy's patterns, then the built-in list, less what the policy
    includes.
    """

    exclude: GitIgnoreSpec | None
    include: GitIgnoreSpec | None

    @classmethod
    def of(cls, exclude: Sequence[str], include: Sequence[str]) -> Rules:
        """Of gitignore patterns."""
        return cls(
            GitIgnoreSpec.from_lines(exclude) if exclude else None,
            GitIgnoreSpec.from_lines(include) if include else None,
        )

    def file(self, path: str) -> str | None:
        return self._reason(path, secretfiles.reason_for_file(path))

    def directory(self, path: str) -> str | None:
        return self._reason(f"{path}/", secretfiles.reason_for_directory(path))

    def included(self, path: str) -> bool:
        return self.include is not None and self.include.match_file(path)

    def _reason(self, path: str, built_in: str | None) -> str | None:
        if self.exclude is not None and self.exclude.match_file(path):
            return "excluded by the policy"
        return None if built_in is None or self.included(path) else built_in


@dataclass
class Batch:
    """What came of copying some files of one directory."""

    entries: list[tuple[str, Entry]] = field(default_factory=list)
    excluded: list[tuple[str, str]] = field(default_factory=list)
    bytes: int = 0


class FileCopier:
    """Copies for the sandbox user `uid:gid`, who may read what the source directory's owner may."""

    def __init__(self, rules: Rules, top: os.stat_result, uid: int, gid: int) -> None:
        self.rules = rules
        self._top = top
        self._owner = (uid, gid) if os.geteuid() == 0 else None
        self._umask = umask()

    def copy(self, from_: int, to: int, prefix: str, names: list[str], room: int) -> Batch:
        """Copy files of one directory. OverLimit past `room` bytes or a full volume."""
        done = Batch()
        for name in names:
            path = prefix + name
            reason = self.rules.file(path)
            if reason is None:
                try:
                    reason = self._open_and_copy(from_, to, path, name, done, room - done.bytes)
                except OSError as error:
                    reason = unreadable(error)
            if reason is not None:
                done.excluded.append((path, reason))
        return done

    def readable(self, found: os.stat_result, need: int) -> bool:
        """Whether the owner of the source directory has these permission bits (one octal digit)."""
        if found.st_uid == self._top.st_uid:
            need <<= 6
        elif found.st_gid == self._top.st_gid:
            need <<= 3
        return found.st_mode & need == need

    def own(self, target: int, mode: int) -> None:
        """Give something just made its owner, and the mode bits that the umask took."""
        if self._owner is not None:
            os.fchown(target, *self._owner)
        if mode & self._umask:
            os.fchmod(target, mode)

    def own_link(self, parent: int, name: str) -> None:
        if self._owner is not None:
            os.chown(name, *self._owner, dir_fd=parent, follow_symlinks=False)

    def _open_and_copy(self, from_: int, to: int, path: str, name: str, done: Batch, room: int) -> str | None:
        source = os.open(name, beneath.READ_FILE, dir_fd=from_)
        try:
            found = os.fstat(source)
            if not stat.S_ISREG(found.st_mode):
                return "changed while it was copied"
            if not self.readable(found, 0o4):
                return "not readable by the owner of the directory"
            size = found.st_size
            head = os.read(source, min(size, _CHUNK)) if size else b""
            reason = secretfiles.reason_for_content(path, head)
            if reason and not self.rules.included(path):
                return reason
            flags = 0
            if secretfiles.is_git_config(path):
                if size > len(head):
                    return "git configuration too large to look through for credentials"
                clean = secretfiles.without_credentials(head)
                flags = REWRITTEN if clean != head else 0
                head = clean
            weight = min(size, found.st_blocks * 512)
            if weight > room:
                raise OverLimit
            try:
                made = self._write(source, found, to, name, head, rest=not flags and size > len(head))
            except OSError as error:
                raise full_or(error) from error
        finally:
            os.close(source)
        done.entries.append((path, entry(FILE, found, made, flags)))
        done.bytes += weight
        return None

    def _write(
        self, source: int, found: os.stat_result, to: int, name: str, head: bytes, *, rest: bool
    ) -> os.stat_result:
        mode = stat.S_IMODE(found.st_mode) & 0o777 | 0o600
        target = os.open(name, beneath.NEW_FILE, mode, dir_fd=to)
        try:
            if rest and found.st_blocks * 512 < found.st_size:
                copy_sparse(source, target, found.st_size)
            else:
                beneath.write_all(target, head)
                if rest:
                    _copy_rest(source, target, found.st_size - len(head))
            self.own(target, mode)
            os.utime(target, ns=(found.st_mtime_ns, found.st_mtime_ns))
            return os.fstat(target)
        finally:
            os.close(target)


def entry(kind: int, found: os.stat_result, made: os.stat_result, flags: int = 0) -> Entry:
    return Entry(
        kind, stat.S_IMODE(made.st_mode), stat.S_IMODE(found.st_mode), flags, made.st_size,
        beneath.modified_ns(found), found.st_ctime_ns, found.st_ino,
        beneath.modified_ns(made), made.st_ctime_ns, made.st_ino,
    )  # fmt: skip


def unreadable(error: OSError) -> str:
    """Why something of the source stays out that could not be opened; raises again what is no such case."""
    if isinstance(error, PermissionError):
        return "not readable"
    if isinstance(error, FileNotFoundError) or error.errno in (errno.ELOOP, errno.ENOTDIR, errno.ENXIO):
        return "changed while it was copied"
    raise error


def full_or(error: OSError) -> Exception:
    """A full volume means that the directory is too large for it; anything else stays a failure to write."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return OverLimit()
    return SandboxRefused(f"the copy of the workspace cannot be written: {error}")


def _copy_rest(source: int, target: int, left: int) -> None:
    """The bytes after the head, up to the size first seen: a file that grows meanwhile is not followed."""
    while left > 0 and (part := os.read(source, min(left, _CHUNK))):
        beneath.write_all(target, part)
        left -= len(part)


def copy_sparse(source: int, target: int, size: int) -> None:
    """Only the data between the holes, whatever the file calls its size."""
    position = 0
    while position < size:
        try:
            position = os.lseek(source, position, os.SEEK_DATA)
            left = min(os.lseek(source, position, os.SEEK_HOLE), size) - position
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break  # No more data, or cut short between the two.
        os.lseek(source, position, os.SEEK_SET)
        os.lseek(target, position, os.SEEK_SET)
        position += left
        _copy_rest(source, target, left)
    os.ftruncate(target, size)


def umask() -> int:
    """This process's umask, read without setting it where the system tells (a set shows in other threads)."""
    try:
        status = Path("/proc/self/status").read_text()
    except FileNotFoundError:
        mask = os.umask(0o077)
        os.umask(mask)
        return mask
    return int(next(line for line in status.splitlines() if line.startswith("Umask:")).split()[1], 8)
