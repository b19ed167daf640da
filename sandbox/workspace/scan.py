"""What of a session's tree is not as the manifest has it: one pass, one status call for each path.

A copy is listed whole. Of an overlay only the upper layer is, in which the kernel keeps what was written: a
whiteout stands for what was deleted, and a directory marked opaque hides what lay beneath its name. The
session cannot make either but by deleting, since the merged tree that it has hides the marks and refuses to
make them.
"""

from __future__ import annotations

import os
import stat

from sandbox.workspace import beneath, executes
from sandbox.workspace.manifest import DIRECTORY, FILE, Entry, Manifest
from sandbox.workspace.review import within

_REPOSITORY = frozenset(("HEAD", "objects", "refs"))
OPAQUE_MARK = "trusted.overlay.opaque"


class Scan:
    """One pass over the copy: what is not as the manifest has it, and what the manifest has and the copy has
    not.
    """

    def __init__(self, known: Manifest) -> None:
        self.known = known
        self.touched: list[tuple[str, os.stat_result]] = []
        """Not as the manifest has it."""
        self.too_deep: set[str] = set()
        """Not looked into: nested too far, or closed."""
        self.bare: set[str] = set()
        """Directories that are git repositories by what they hold, whatever their name."""
        self._missing = dict(known.entries)

    def gone(self) -> dict[str, Entry]:
        """What the manifest has and the copy has not, once all was listed."""
        return self._missing

    def directory(self, here: int, prefix: str, depth: int) -> int:
        """List one directory; returns how many names it holds."""
        names: set[str] = set()
        below: list[tuple[str, os.stat_result, bool]] = []
        missing = self._missing
        with os.scandir(here) as listing:
            for item in listing:
                names.add(item.name)
                path = prefix + item.name
                base = missing.pop(path, None)
                try:
                    status = item.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if stat.S_ISDIR(status.st_mode):
                    below.append((item.name, status, base is not None and base.kind == DIRECTORY))
                elif base is None or not _untouched(base, status):
                    self.touched.append((path, status))
        if prefix and names >= _REPOSITORY and not executes.in_git(prefix[:-1]):
            self.bare.add(prefix[:-1])
        for name, status, was_there in below:
            self._enter(here, prefix + name, name, status, was_there, depth + 1)
        return len(names)

    def _enter(
        self, here: int, path: str, name: str, status: os.stat_result, was_there: bool, depth: int
    ) -> None:
        if depth > beneath.MAX_DEPTH:
            self.too_deep.add(path)
            self.touched.append((path, status))
            return
        try:
            below = beneath.enter(here, name)
        except OSError:
            # Swapped under our hands, or closed to us: shown, and never applied.
            self.too_deep.add(path)
            self.touched.append((path, status))
            return
        try:
            names = self.directory(below, f"{path}/", depth)
        finally:
            os.close(below)
        if not was_there and (not names or path in self.known.entries):
            self.touched.append((path, status))


class OverlayScan(Scan):
    """The same of an overlay's upper layer."""

    def __init__(self, known: Manifest) -> None:
        super().__init__(known)
        self._listed: set[str] = set()
        self._cut: set[str] = set()
        """Nothing of the lower layer shows at these paths, or beneath them."""

    def gone(self) -> dict[str, Entry]:
        if not self._cut:
            return {}
        return {
            path: entry
            for path, entry in self.known.entries.items()
            if path not in self._listed and (path in self._cut or within(path, self._cut))
        }

    def directory(self, here: int, prefix: str, depth: int) -> int:
        if prefix and is_opaque(here):
            self._cut.add(prefix[:-1])
        names: set[str] = set()
        below: list[tuple[str, os.stat_result, bool]] = []
        with os.scandir(here) as listing:
            for item in listing:
                path = prefix + item.name
                try:
                    status = item.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
                    self._cut.add(path)
                    continue
                names.add(item.name)
                self._listed.add(path)
                base = self.known.entries.get(path)
                if stat.S_ISDIR(status.st_mode):
                    below.append((item.name, status, base is not None and base.kind == DIRECTORY))
                    continue
                if base is not None and base.kind == DIRECTORY:
                    self._cut.add(path)
                if base is None or not _untouched(base, status):
                    self.touched.append((path, status))
        if prefix and not executes.in_git(prefix[:-1]) and self._repository(prefix, names):
            self.bare.add(prefix[:-1])
        for name, status, was_there in below:
            self._enter(here, prefix + name, name, status, was_there, depth + 1)
        return len(names)

    def _repository(self, prefix: str, names: set[str]) -> bool:
        # Part of it may lie in the lower layer, deleted or not: it costs one word more to apply.
        return all(name in names or prefix + name in self.known.entries for name in _REPOSITORY)


def is_opaque(directory: int) -> bool:
    """Whether a directory of an upper layer hides all that the lower one has at its name."""
    try:
        return os.getxattr(directory, OPAQUE_MARK) == b"y"
    except OSError:
        return False  # not marked


def _untouched(base: Entry, status: os.stat_result) -> bool:
    return (
        base.copy_ctime_ns == status.st_ctime_ns
        and base.copy_ino == status.st_ino
        and base.copy_mtime_ns == beneath.modified_ns(status)
        and base.mode == stat.S_IMODE(status.st_mode)
        and (base.kind == FILE) == stat.S_ISREG(status.st_mode)
        and base.size == status.st_size
    )
