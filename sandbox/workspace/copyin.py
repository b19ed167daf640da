"""Copy in: a private copy of the user's directory, without its credentials, and its manifest.

One thread does all of it: a small file costs ten short system calls, and between threads the interpreter's
lock changes hands at each of them, which costs more than a second core gains. What stays out is reported with
a reason: credential files, what the sandbox user may not read, devices, FIFOs and sockets, other file
systems. Symlinks are copied as they are: they resolve inside the container only.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from policies.schema import Limits
from sandbox.errors import SandboxRefused
from sandbox.workspace import beneath, manifest
from sandbox.workspace.copyfile import FileCopier, OverLimit, Rules, entry, full_or, unreadable
from sandbox.workspace.layout import tree_of
from sandbox.workspace.manifest import DIRECTORY, REWRITTEN, SYMLINK, Entry, Manifest
from sandbox.workspace.weighing import Weighing

Progress = Callable[[int, int], None]
"""Called with the entries and bytes copied so far, now and then; raising from it stops the copy."""

_BATCH = 256
"""Files copied between two looks at the limits."""
_SHOW_S = 0.1
SPECIAL = {stat.S_IFSOCK: "socket", stat.S_IFIFO: "FIFO", stat.S_IFBLK: "device", stat.S_IFCHR: "device"}


@dataclass(frozen=True)
class CopyReport:
    files: int
    """Files, directories and symlinks in the copy."""
    bytes: int
    excluded: tuple[tuple[str, str], ...]
    """Paths left out, with the reason. A directory stands for all that is in it."""
    rewritten: tuple[str, ...]
    """Files that went in with credentials taken out."""
    mode: Literal["copy", "overlay", "bind"] = "copy"
    """Only a copy has bytes to count; what is bound has nothing left out."""


def copy_in(
    source: Path,
    session_dir: Path,
    *,
    limits: Limits,
    exclude: Sequence[str] = (),
    include: Sequence[str] = (),
    uid: int,
    gid: int,
    progress: Progress | None = None,
) -> CopyReport:
    """Copy `source` into the session's prepared storage, owned by `uid:gid`, and write the manifest.

    `exclude` and `include` are gitignore patterns; include only brings back what the built-in list leaves
    out. Raises SandboxRefused when it is larger than the policy lets a workspace be, OSError when `source`
    cannot be read at all.
    """
    if os.geteuid() != 0 and uid != os.geteuid():
        raise ValueError(f"only root can copy for another user ({uid})")
    rules = Rules.of(exclude, include)
    destination = tree_of(session_dir)
    with beneath.root(source) as from_, beneath.root(destination) as to:
        top = os.fstat(from_)
        copier = FileCopier(rules, top, uid, gid)
        run = _Run(copier, top, limits, progress, forbidden(source, session_dir))
        try:
            run.directory(from_, to, "", 0)
        except OverLimit:
            raise SandboxRefused(Weighing(rules, top, run.forbidden).report(from_, limits)) from None
    # A fixed order, whatever the file system lists first.
    entries = dict(sorted(run.entries.items()))
    _settle(destination, entries)
    excluded = sorted(run.excluded)
    manifest.save(session_dir, Manifest(source.resolve(), uid, gid, entries, run.targets, excluded))
    rewritten = tuple(path for path, copied in entries.items() if copied.flags & REWRITTEN)
    return CopyReport(len(entries), run.total, tuple(excluded), rewritten)


def _settle(destination: Path, entries: dict[str, Entry]) -> None:
    """Give directories their times, after their content has come. By path: nothing of the guest runs yet."""
    for path, copied in entries.items():
        if copied.kind == DIRECTORY:
            times = (copied.source_mtime_ns, copied.source_mtime_ns)
            os.utime(destination / path, ns=times, follow_symlinks=False)


def forbidden(source: Path, session_dir: Path) -> frozenset[tuple[int, int]]:
    """Directories that must not be copied into themselves: the session's own, and the store it lies in."""
    own, top = session_dir.resolve(), source.resolve()
    paths = [own, own.parent] if top in own.parent.parents else [own]
    return frozenset((found.st_dev, found.st_ino) for found in (path.stat() for path in paths))


class _Run:
    """One walk, depth first."""

    def __init__(
        self,
        copier: FileCopier,
        top: os.stat_result,
        limits: Limits,
        progress: Progress | None,
        forbidden: frozenset[tuple[int, int]],
    ) -> None:
        self.copier = copier
        self.top = top
        self.limits = limits
        self.progress = progress
        self.forbidden = forbidden
        self.entries: dict[str, Entry] = {}
        self.targets: dict[str, str] = {}
        self.excluded: list[tuple[str, str]] = []
        self.total = 0
        self._shown = time.monotonic()

    def directory(self, from_: int, to: int, prefix: str, depth: int) -> None:
        files: list[str] = []
        directories: list[str] = []
        with os.scandir(from_) as listing:
            for item in listing:
                if item.is_file(follow_symlinks=False):
                    files.append(item.name)
                elif item.is_dir(follow_symlinks=False):
                    directories.append(item.name)
                elif item.is_symlink():
                    self._symlink(from_, to, prefix + item.name, item.name)
                else:
                    kind = stat.S_IFMT(item.stat(follow_symlinks=False).st_mode)
                    self._leave_out(prefix + item.name, SPECIAL.get(kind, "special file"))
        for start in range(0, len(files), _BATCH):
            self._copy(from_, to, prefix, files[start : start + _BATCH])
        for name in directories:
            self._enter(from_, to, prefix + name, name, depth + 1)

    def _enter(self, from_: int, to: int, path: str, name: str, depth: int) -> None:
        if reason := self.copier.rules.directory(path):
            return self._leave_out(path, reason)
        try:
            below = beneath.enter(from_, name)
        except OSError as error:
            return self._leave_out(path, unreadable(error))
        try:
            found = os.fstat(below)
            if reason := self._barred(found, depth):
                return self._leave_out(path, reason)
            target = self._make_directory(to, path, name, found)
            try:
                self.directory(below, target, f"{path}/", depth)
            finally:
                os.close(target)
        finally:
            os.close(below)

    def _make_directory(self, to: int, path: str, name: str, found: os.stat_result) -> int:
        mode = stat.S_IMODE(found.st_mode) & 0o777 | 0o700
        try:
            os.mkdir(name, mode, dir_fd=to)
        except OSError as error:
            raise full_or(error) from error
        target = beneath.enter(to, name)
        self.copier.own(target, mode)
        self._keep([(path, entry(DIRECTORY, found, os.fstat(target)))], 0)
        return target

    def _barred(self, found: os.stat_result, depth: int) -> str | None:
        if (found.st_dev, found.st_ino) in self.forbidden:
            return "holds usermode's own state"
        if found.st_dev != self.top.st_dev:
            return "on another file system"
        if depth > beneath.MAX_DEPTH:
            return f"more than {beneath.MAX_DEPTH} directories deep"
        return None if self.copier.readable(found, 0o5) else "not readable by the owner of the directory"

    def _symlink(self, from_: int, to: int, path: str, name: str) -> None:
        if reason := self.copier.rules.file(path):
            return self._leave_out(path, reason)
        try:
            found = os.stat(name, dir_fd=from_, follow_symlinks=False)
            target = os.readlink(name, dir_fd=from_)
        except OSError as error:
            return self._leave_out(path, unreadable(error))
        try:
            os.symlink(target, name, dir_fd=to)
        except OSError as error:
            raise full_or(error) from error
        self.copier.own_link(to, name)
        os.utime(name, ns=(found.st_mtime_ns, found.st_mtime_ns), dir_fd=to, follow_symlinks=False)
        self.targets[path] = target
        made = os.stat(name, dir_fd=to, follow_symlinks=False)
        return self._keep([(path, entry(SYMLINK, found, made))], 0)

    def _copy(self, from_: int, to: int, prefix: str, names: list[str]) -> None:
        room = (self.limits.workspace_mb << 20) - self.total
        done = self.copier.copy(from_, to, prefix, names, room)
        self.excluded += done.excluded
        self._keep(done.entries, done.bytes)
        self._show()

    def _keep(self, entries: list[tuple[str, Entry]], size: int) -> None:
        self.entries.update(entries)
        self.total += size
        if self.total > self.limits.workspace_mb << 20 or len(self.entries) > self.limits.workspace_inodes:
            raise OverLimit

    def _leave_out(self, path: str, reason: str) -> None:
        self.excluded.append((path, reason))

    def _show(self) -> None:
        if self.progress is not None and time.monotonic() - self._shown > _SHOW_S:
            self._shown = time.monotonic()
            self.progress(len(self.entries), self.total)
