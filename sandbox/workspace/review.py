"""A review: what a session changed, as values that a person's screen and `apply` read alike."""

from __future__ import annotations

import os
import stat
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sandbox.workspace import beneath

Kind = Literal["added", "modified", "deleted", "mode", "type"]
Section = Literal["ordinary", "executes", "git", "blocked"]
Stamp = tuple[int, int, int, int, int]
"""Mode, size, mtime, ctime and inode number: equal only while nothing happened to a file."""

_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "FIFO",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}


@dataclass(frozen=True)
class Change:
    path: str
    """Relative to the root; bytes that are no UTF-8 stand as surrogates, so escape before showing."""
    kind: Kind
    node: str
    """What is there now, or was before it was deleted: file, directory, symlink, FIFO, socket or device."""
    size: int
    """Bytes of the new content; 0 for anything deleted."""
    executable: bool
    """Whether its owner may execute the file in the copy."""
    git: bool
    """Inside a repository's own directory: applied only when asked for by path."""
    executes: str | None
    """Why it may run on the host later; applied only when named itself, or when executables are asked for."""
    blocked: str | None
    """Why it is never applied."""
    conflict: str | None
    """Why applying it would overwrite something the session never saw; applied only with force."""
    seen: Stamp | None
    """The copy's status when it was looked at; None when it is not there."""
    yours: Stamp | None
    """The user's own file's status then; None when it is not there."""
    target: str | None = None
    """Where a symlink of the session points."""

    @property
    def section(self) -> Section:
        if self.blocked:
            return "blocked"
        if self.executes:
            return "executes"
        return "git" if self.git else "ordinary"


@dataclass(frozen=True)
class Review:
    """Every change, sorted by path, and the sections a person reads."""

    source: Path
    changes: tuple[Change, ...]

    @property
    def ordinary(self) -> tuple[Change, ...]:
        return tuple(c for c in self.changes if c.section == "ordinary")

    @property
    def executes(self) -> tuple[Change, ...]:
        return tuple(c for c in self.changes if c.section == "executes")

    @property
    def git(self) -> tuple[Change, ...]:
        return tuple(c for c in self.changes if c.section == "git")

    @property
    def blocked(self) -> tuple[Change, ...]:
        return tuple(c for c in self.changes if c.section == "blocked")

    @property
    def conflicts(self) -> tuple[Change, ...]:
        return tuple(c for c in self.changes if c.conflict and not c.blocked)


def stamp(status: os.stat_result) -> Stamp:
    return status.st_mode, status.st_size, beneath.modified_ns(status), status.st_ctime_ns, status.st_ino


def kind_of(status: os.stat_result) -> str:
    return _KINDS.get(stat.S_IFMT(status.st_mode), "special file")


def unprintable(path: str) -> str | None:
    """Why a path cannot be shown as it is, and therefore does not cross; None for a plain one."""
    if path.isascii() and path.isprintable():
        return None
    try:
        path.encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    if any(unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp") for character in path):
        return "its name holds control or invisible characters"
    return None


def within(path: str, directories: set[str]) -> str | None:
    """The closest of these directories that holds the path."""
    while (cut := path.rfind("/")) > 0:
        path = path[:cut]
        if path in directories:
            return path
    return None
