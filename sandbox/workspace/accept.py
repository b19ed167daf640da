"""Apply: a reviewed change enters the user's directory, and nothing else does.

Every path is walked by directory descriptors on both sides, so no symlink is followed, whoever made it. A
file is written beside its target and renamed over it; a path is touched only while both sides still are what
was judged. What was done is logged path by path, so that a second run, or one after a kill, has nothing to do
twice.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sandbox.workspace import beneath, manifest
from sandbox.workspace.choice import Choice
from sandbox.workspace.compare import compare
from sandbox.workspace.copyfile import copy_sparse, umask
from sandbox.workspace.manifest import DIRECTORY, FILE, AppliedLog, Entry
from sandbox.workspace.quota import opened
from sandbox.workspace.review import Change, Review, Stamp, stamp, within


@dataclass(frozen=True)
class ApplyReport:
    applied: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]
    """Changes that were left alone, with the reason and what to do."""


class _Skipped(Exception):
    """This path is left alone; the message is the reason."""


class _Full(_Skipped):
    """And so are all that come after it: what was to be deleted may have been moved to where nothing fits."""


def apply(
    session_dir: Path,
    paths: Sequence[str] | None = None,
    *,
    force: bool = False,
    executable: bool = False,
    exactly: bool = False,
    reviewed: Review | None = None,
    dry_run: bool = False,
) -> ApplyReport:
    """Take changes over into the user's directory: all ordinary ones, or those at or beneath `paths`.

    Files that may run on the host come only when named exactly or with `executable`; what lies in `.git` only
    when a path in there is named; a conflict only with `force`; what is blocked never. `exactly` takes
    `paths` as they are, not what is beneath them. With `reviewed`, a file that is no longer what that review
    saw is skipped. `dry_run` reports and touches nothing.

    OSError when the user's directory cannot be written.
    """
    known = manifest.load(session_dir)
    with opened(session_dir) as tree, beneath.root(tree) as copy, beneath.root(known.source) as source:
        review = compare(known, copy, source)
        choice = Choice(paths, force=force, executable=executable, exactly=exactly, reviewed=reviewed)
        asked = [change for change in _ordered(review.changes) if choice.asked_for(change)]
        refused = {change.path: reason for change in asked if (reason := choice.refusal(change))}
        wanted = [change for change in asked if change.path not in refused]
        skipped = [*choice.unmatched(review), *refused.items()]
        if dry_run:
            applied = [change.path for change in wanted]
        else:
            applied, left = _taken(wanted, copy, source, session_dir)
            skipped += left
    return ApplyReport(tuple(sorted(applied)), tuple(sorted(skipped)))


def _taken(
    wanted: Sequence[Change], copy: int, source: int, session_dir: Path
) -> tuple[list[str], list[tuple[str, str]]]:
    left: list[tuple[str, str]] = []
    with AppliedLog(session_dir) as log:
        run = _Run(copy, source, log)
        full: _Full | None = None
        for change in wanted:
            try:
                if full is not None:
                    raise full
                run.take(change)
            except _Skipped as reason:
                left.append((change.path, str(reason)))
                full = reason if isinstance(reason, _Full) else full
    return run.applied, left


def _ordered(changes: Sequence[Change]) -> list[Change]:
    """What comes before what goes, so that a run which is cut short loses nothing; deepest goes first.

    Only what stands where another kind of thing is to come must go before it.
    """
    replaced = {change.path for change in changes if change.kind == "type"}

    def key(change: Change) -> tuple[int, int, str]:
        if change.kind != "deleted":
            return 1, 0, change.path
        return 0 if within(change.path, replaced) else 2, -change.path.count("/"), change.path

    return sorted(changes, key=key)


class _Run:
    def __init__(self, copy: int, source: int, log: AppliedLog) -> None:
        self.applied: list[str] = []
        self._copy = copy
        self._source = source
        self._log = log
        self._umask = umask()

    def take(self, change: Change) -> None:
        try:
            if change.kind == "deleted":
                self._delete(change)
            elif change.node == "directory":
                self._directory(change)
            elif change.kind == "mode":
                self._mode(change)
            else:
                self._file(change)
        except (beneath.NotRegular, FileExistsError, FileNotFoundError):
            raise _Skipped("changed while it was applied") from None
        except NotADirectoryError:
            raise _Skipped("a directory on its path is a symlink or a file in your directory") from None
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise _Full("the disk is full; free some space, then apply it again") from None
        self.applied.append(change.path)

    def _delete(self, change: Change) -> None:
        with beneath.parent_of(self._source, change.path) as (parent, name):
            self._still_yours(parent, name, change)
            if change.node == "directory":
                try:
                    os.rmdir(name, dir_fd=parent)
                except OSError:
                    raise _Skipped("not empty in your directory") from None
            else:
                os.unlink(name, dir_fd=parent)
        self._log.record(change.path, None)

    def _directory(self, change: Change) -> None:
        with self._parent(change.path) as (parent, name):
            self._clear(parent, name, change)
            self._make_directory(parent, name, change.path)

    def _mode(self, change: Change) -> None:
        """Only whether it is executable crosses: to those who may read it."""
        with beneath.parent_of(self._source, change.path) as (parent, name):
            target, found = beneath.open_regular(parent, name)
            try:
                if stamp(found) != change.yours:
                    raise _Skipped("changed while it was applied")
                os.fchmod(target, _with_execution(stat.S_IMODE(found.st_mode) & 0o777, change.executable))
                self._record(change, os.fstat(target))
            finally:
                os.close(target)

    def _file(self, change: Change) -> None:
        with beneath.parent_of(self._copy, change.path) as (from_, from_name):
            content, status = beneath.open_regular(from_, from_name)
        try:
            if stamp(status) != change.seen:
                raise _Skipped("changed while it was applied")
            with self._parent(change.path) as (parent, name):
                self._replace(parent, name, change, content, status)
        finally:
            os.close(content)

    def _replace(self, parent: int, name: str, change: Change, content: int, status: os.stat_result) -> None:
        yours = beneath.look(parent, name)
        temporary = _temporary(change.path)
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=parent)  # left by a run that was killed
        target = os.open(temporary, beneath.NEW_FILE, 0o600, dir_fd=parent)
        try:
            copy_sparse(content, target, status.st_size)
            if stamp(os.fstat(content)) != change.seen:
                raise _Skipped("changed while it was applied")
            owner = yours if yours is not None else os.fstat(parent)
            if os.geteuid() == 0:
                os.fchown(target, owner.st_uid, owner.st_gid)
            os.fchmod(target, self._new_mode(yours, status, change))
            os.fsync(target)
            if yours is not None and stat.S_ISDIR(yours.st_mode):
                self._clear(parent, name, change)
            else:
                self._still_yours(parent, name, change)
            # The commit point: past here the user's file is the new one.
            os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
            self._record(change, os.fstat(target))
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=parent)
            raise
        finally:
            os.close(target)

    def _new_mode(self, yours: os.stat_result | None, status: os.stat_result, change: Change) -> int:
        if yours is not None and stat.S_ISREG(yours.st_mode):
            return _with_execution(stat.S_IMODE(yours.st_mode) & 0o777, change.executable)
        return stat.S_IMODE(status.st_mode) & 0o777 & ~self._umask

    def _clear(self, parent: int, name: str, change: Change) -> None:
        """Make room where another kind of thing stands."""
        self._still_yours(parent, name, change, content=change.kind != "type")
        yours = beneath.look(parent, name)
        if yours is None:
            return
        if not stat.S_ISDIR(yours.st_mode):
            os.unlink(name, dir_fd=parent)
        elif change.node != "directory":
            try:
                os.rmdir(name, dir_fd=parent)
            except OSError:
                raise _Skipped("a directory that is not empty stands there in your directory") from None

    def _still_yours(self, parent: int, name: str, change: Change, *, content: bool = True) -> None:
        """The user's own file must still be the one that was judged."""
        yours = beneath.look(parent, name)
        now = None if yours is None else stamp(yours)
        # A directory's own times move with what was just applied inside it.
        only_kind = not content or (yours is not None and stat.S_ISDIR(yours.st_mode))
        if _kind(now) != _kind(change.yours) if only_kind else now != change.yours:
            raise _Skipped("changed in your directory while it was applied")

    def _record(self, change: Change, target: os.stat_result) -> None:
        assert change.seen is not None
        mode, size, mtime_ns, ctime_ns, ino = change.seen
        entry = Entry(
            FILE, stat.S_IMODE(mode), stat.S_IMODE(target.st_mode), 0, size,
            beneath.modified_ns(target), target.st_ctime_ns, target.st_ino, mtime_ns, ctime_ns, ino,
        )  # fmt: skip
        self._log.record(change.path, entry)

    @contextmanager
    def _parent(self, path: str) -> Iterator[tuple[int, str]]:
        """The user's directory that is to hold `path`, made where it is missing."""
        *directories, name = beneath.components(path)
        here = os.dup(self._source)
        try:
            for depth, component in enumerate(directories, start=1):
                if beneath.look(here, component) is None:
                    self._make_directory(here, component, "/".join(directories[:depth]))
                below = beneath.enter(here, component)
                os.close(here)
                here = below
            yield here, name
        finally:
            os.close(here)

    def _make_directory(self, parent: int, name: str, path: str) -> None:
        os.mkdir(name, 0o777, dir_fd=parent)  # never one that is there: whose it is would be unknown
        if os.geteuid() == 0:
            owner = os.fstat(parent)
            os.chown(name, owner.st_uid, owner.st_gid, dir_fd=parent, follow_symlinks=False)
        self._log.record(path, Entry(DIRECTORY, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0))


def _temporary(path: str) -> str:
    """The same name each time, so that what a killed run left is found by the next."""
    return f".usermode-{hashlib.sha256(os.fsencode(path)).hexdigest()[:16]}.tmp"


def _with_execution(mode: int, executable: bool) -> int:
    """The mode with execution given to those who may read, or taken from all."""
    return mode | (mode & 0o444) >> 2 if executable else mode & ~0o111


def _kind(status: Stamp | None) -> int | None:
    return None if status is None else stat.S_IFMT(status[0])
