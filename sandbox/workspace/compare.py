"""What a session changed: the copy compared with its manifest and with the user's directory as it is now.

A file that nobody touched costs one status call. One that was touched is compared by content with the user's
own, so rewriting the same bytes is no change. The guest may alter the tree while it is read: every change
carries the status that was seen, and whoever uses it later checks that it still holds.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from sandbox.workspace import beneath, executes, manifest
from sandbox.workspace.manifest import DIRECTORY, FILE, REWRITTEN, SYMLINK, Entry, Manifest
from sandbox.workspace.quota import opened
from sandbox.workspace.review import Change, Kind, Review, kind_of, stamp, unprintable, within
from sandbox.workspace.scan import OverlayScan, Scan

__all__ = ["Change", "Review", "changes", "compare"]

_SPARSE_BYTES = 4 << 30
_ENTRY_KINDS = {FILE: "file", DIRECTORY: "directory", SYMLINK: "symlink"}


def changes(session_dir: Path) -> Review:
    """What the session changed. FileNotFoundError when it has no copy, or the user's directory is gone."""
    known = manifest.load(session_dir)
    with opened(session_dir) as tree, beneath.root(tree) as copy, beneath.root(known.source) as source:
        return compare(known, copy, source)


def compare(known: Manifest, copy: int, source: int) -> Review:
    """The same over open directories."""
    scan = OverlayScan(known) if known.mode == "overlay" else Scan(known)
    scan.directory(copy, "", 0)
    judge = _Judge(known, scan)
    found = [judge.judged(copy, source, path, status) for path, status in scan.touched]
    # Nothing is known to be deleted beneath what could not be entered or was replaced by what does not cross.
    closed = {change.path for change in found if change is not None and change.blocked}
    for path, entry in scan.gone().items():
        found.append(_deleted(source, known, path, entry, within(path, closed)))
    listed = sorted((change for change in found if change is not None), key=lambda change: change.path)
    return Review(known.source, tuple(listed))


class _Judge:
    """Tells what became of each path that a scan found."""

    def __init__(self, known: Manifest, scan: Scan) -> None:
        self.known = known
        self.scan = scan

    def judged(self, copy: int, source: int, path: str, status: os.stat_result) -> Change | None:
        """A touched path as a change; None when it comes out the same."""
        base = self.known.entries.get(path)
        blocked = self._blocked(copy, path, status, base)
        yours, unreachable = _look(source, path)
        blocked = blocked or unreachable
        same = False
        if blocked is None and stat.S_ISREG(status.st_mode) and yours is not None:
            same = _same_content(copy, source, path, status, yours)
        if base is not None and base.kind == SYMLINK and stat.S_ISLNK(status.st_mode):
            same = _target(copy, path) == self.known.targets.get(path)
            if same:
                return None
        newly_executable = _executable(status) and not (
            base is not None and base.kind == FILE and base.source_mode & 0o100
        )
        kind: Kind = "added" if base is None else "modified"
        if base is not None and _ENTRY_KINDS[base.kind] != kind_of(status):
            kind = "type"
        if same and yours is not None:
            if bool(yours.st_mode & 0o100) == _executable(status):
                return None
            kind = "mode"
        if stat.S_ISDIR(status.st_mode) and yours is not None and stat.S_ISDIR(yours.st_mode) and not blocked:
            return None
        git = executes.in_git(path)
        return Change(
            path=path,
            kind=kind,
            node=kind_of(status),
            size=status.st_size if stat.S_ISREG(status.st_mode) else 0,
            executable=_executable(status),
            git=git,
            executes=self._executes(path, newly_executable=newly_executable and not git),
            blocked=blocked,
            conflict=None if same else _conflict(base, yours, self.known.targets.get(path), source, path),
            seen=stamp(status),
            yours=stamp(yours) if yours is not None else None,
            target=_target(copy, path) if stat.S_ISLNK(status.st_mode) else None,
        )

    def _executes(self, path: str, *, newly_executable: bool) -> str | None:
        if reason := executes.reason_by_path(path):
            return reason
        if within(path, self.scan.bare):
            return "part of a bare git repository, whose configuration can run programs"
        return "newly executable" if newly_executable else None

    def _blocked(self, copy: int, path: str, status: os.stat_result, base: Entry | None) -> str | None:
        if reason := unprintable(path):
            return reason
        if path in self.scan.too_deep:
            return "too deep or not readable"
        if base is not None and base.flags & REWRITTEN:
            return "credentials were left out of its copy: make this change by hand"
        if stat.S_ISDIR(status.st_mode):
            return "a symlink of yours became a directory" if base and base.kind == SYMLINK else None
        if not stat.S_ISREG(status.st_mode):
            return f"a {kind_of(status)}"
        if status.st_mode & 0o7000:
            return "setuid, setgid or sticky bit"
        if status.st_size > max(_SPARSE_BYTES, 2 * status.st_blocks * 512):
            return f"claims {status.st_size:,} bytes and holds {status.st_blocks * 512:,}"
        try:
            with beneath.parent_of(copy, path) as (parent, name):
                os.close(beneath.open_regular(parent, name)[0])
        except OSError:
            return "cannot be read"
        return None


def _executable(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) and bool(status.st_mode & 0o100)


def _look(source: int, path: str) -> tuple[os.stat_result | None, str | None]:
    """The user's own file, or why it must not be reached: a symlink stands on the way."""
    try:
        with beneath.parent_of(source, path) as (parent, name):
            return beneath.look(parent, name), None
    except beneath.LinkOnTheWay:
        return None, "a directory on its path is a symlink in your directory"
    except (FileNotFoundError, NotADirectoryError):
        return None, None
    except OSError:
        return None, "a directory on its path cannot be entered in your directory"


def _same_content(copy: int, source: int, path: str, status: os.stat_result, yours: os.stat_result) -> bool:
    if not stat.S_ISREG(yours.st_mode) or status.st_size != yours.st_size:
        return False
    try:
        with beneath.parent_of(copy, path) as (parent, name):
            left, _ = beneath.open_regular(parent, name)
        try:
            with beneath.parent_of(source, path) as (parent, name):
                right, _ = beneath.open_regular(parent, name)
            try:
                return beneath.same_content(left, right)
            finally:
                os.close(right)
        finally:
            os.close(left)
    except OSError:
        return False  # shown as a change: apply looks again


def _target(top: int, path: str) -> str | None:
    try:
        with beneath.parent_of(top, path) as (parent, name):
            return os.readlink(name, dir_fd=parent)
    except OSError:
        return None


def _conflict(
    base: Entry | None, yours: os.stat_result | None, target: str | None, source: int, path: str
) -> str | None:
    if base is None:
        return None if yours is None else "is in your directory and was not part of the copy"
    if yours is None:
        return "is no longer in your directory"
    if kind_of(yours) != _ENTRY_KINDS[base.kind]:
        return f"is a {kind_of(yours)} in your directory now"
    if base.kind == DIRECTORY:
        return None
    if base.kind == SYMLINK:
        return None if _target(source, path) == target else "points elsewhere in your directory now"
    # The content that was copied is not kept, so anything that may have altered it counts.
    same = (beneath.modified_ns(yours), yours.st_ctime_ns, yours.st_ino) == base.source()
    return None if same else "was changed in your directory since the copy"


def _deleted(source: int, known: Manifest, path: str, base: Entry, closed: str | None) -> Change | None:
    yours, unreachable = _look(source, path)
    if closed is not None:
        unreachable = "its directory was replaced or closed"
    if yours is None and unreachable is None:
        return None
    rewritten = "credentials were left out of its copy: make this change by hand"
    return Change(
        path=path,
        kind="deleted",
        node=_ENTRY_KINDS[base.kind],
        size=0,
        executable=False,
        git=executes.in_git(path),
        executes=executes.reason_by_path(path) if base.kind != DIRECTORY else None,
        blocked=unprintable(path) or unreachable or (rewritten if base.flags & REWRITTEN else None),
        conflict=_conflict(base, yours, known.targets.get(path), source, path),
        seen=None,
        yours=stamp(yours) if yours is not None else None,
    )
