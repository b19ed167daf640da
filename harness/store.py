"""Where sessions live on the host: one private directory each, outside every workspace."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from platformdirs import user_state_dir

from harness.errors import HarnessError, JournalError, UsageError
from harness.events import SessionStarted
from harness.journal.lock import exclusive
from harness.journal.reading import regular
from harness.journal.record import FILE, BadLine
from harness.journal.reserve import FILE as RESERVE
from harness.rows import SessionRow, first_record, row_of
from sandbox import owner

SESSION_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{6}", re.ASCII)
"""UTC date and time, then a random part: `20261122-143005-8f3a2c`. Sorts by age; safe in any name."""
_PREFIX = re.compile(r"^[0-9a-f-]{1,22}$")
_REMOVING = ".removing-"
NEVER_BEGAN_S = 60.0
"""Longer than it takes from a session's directory to the first entry of its journal."""


def home(environ: Mapping[str, str] = os.environ) -> Path:
    """`USERMODE_HOME`, or the user's state directory by the platform's convention."""
    chosen = environ.get("USERMODE_HOME")
    path = Path(chosen) if chosen else Path(user_state_dir("usermode", appauthor=False))
    if not path.is_absolute():
        raise UsageError(f"USERMODE_HOME must be an absolute path, not {chosen!r}")
    return path


def keep_apart(workspace: Path | None, home: Path) -> None:
    """UsageError for a workspace that holds the records of sessions: no session may reach those, or the
    sockets that answer questions.
    """
    if workspace is not None and home.resolve().is_relative_to(workspace.resolve()):
        raise UsageError(
            f"{workspace} holds usermode's own sessions ({home}); work in a directory below it, or set "
            "USERMODE_HOME"
        )


class Store:
    """The sessions under one home. UsageError for a home that others could write to."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.sessions = home / "sessions"
        try:
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
            _refuse_shared(home)
            _make_private(self.sessions)
        except OSError as exc:
            raise UsageError(f"cannot keep sessions in {home}: {exc.strerror}; set USERMODE_HOME") from exc

    def new_session(self) -> Path:
        """Make the directory of a new session; its name is the session's id."""
        while True:
            stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
            directory = self.sessions / f"{stamp}-{secrets.token_hex(3)}"
            try:
                directory.mkdir(mode=0o700)
            except FileExistsError:
                continue
            except OSError as exc:
                code = "disk_full" if exc.errno in (errno.ENOSPC, errno.EDQUOT) else "io"
                raise JournalError(
                    f"no session can be made in {self.sessions}: {exc.strerror}", code=code
                ) from exc
            # The umask takes bits away from mkdir's mode, never adds any.
            directory.chmod(0o700)
            return directory

    def session(self, reference: str) -> Path:
        """The directory of the session with this id, unique beginning of an id, or `last`: of the user's own
        sessions the one that began last, not one that such a session started.

        UsageError when there is none, or several.
        """
        ids = self.ids()
        if reference == "last":
            if not ids:
                raise UsageError("there is no session yet; `usermode run TASK` makes one")
            return self.sessions / max(ids, key=self._order)
        if not _PREFIX.match(reference):
            raise UsageError(f"{reference!r} is not a session; `usermode ps` lists them")
        found = [reference] if reference in ids else [name for name in ids if name.startswith(reference)]
        if not found:
            raise UsageError(f"no session {reference!r}; `usermode ps` lists them")
        if len(found) > 1:
            some = ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
            raise UsageError(f"{reference!r} begins {len(found)} sessions: {some}")
        return self.sessions / found[0]

    def ids(self) -> list[str]:
        """Ids of all sessions, oldest first."""
        with os.scandir(self.sessions) as entries:
            return sorted(
                entry.name
                for entry in entries
                if SESSION_ID.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)
            )

    def list(self) -> list[SessionRow]:
        """All sessions, oldest first."""
        names = sorted(self.ids(), key=lambda name: self._order(name)[1:])
        return [row_of(self.sessions / name) for name in names]

    def remove(self, directory: Path, *, deleted: bool = True) -> None:
        """Delete a session and its files, or leave that to `sweep`. UsageError while it runs, or for a path
        that is no session.
        """
        if directory.parent != self.sessions or not SESSION_ID.fullmatch(directory.name):
            raise UsageError(f"{directory} is not a session of {self.home}")
        try:
            with exclusive(directory):
                # Under another name at once, so that half a session is never listed.
                doomed = self.sessions / (_REMOVING + directory.name)
                directory.rename(doomed)
        except JournalError as exc:
            raise UsageError(str(exc)) from exc
        except OSError as exc:
            raise HarnessError(f"cannot remove session {directory.name}: {exc.strerror}") from exc
        if deleted:
            _delete(doomed)

    def sweep(self, never_began_s: float = NEVER_BEGAN_S) -> int:
        """Finish removals that were interrupted, and remove sessions whose harness was killed before their
        first entry, this long ago; returns how many. What ended sessions hold in reserve is given back.
        """
        for row in self.list():
            if row.status == "ended":
                # Of a harness that was killed after its last word.
                (row.directory / RESERVE).unlink(missing_ok=True)
            if row.status == "empty" and not owner.in_use(row.directory):
                with contextlib.suppress(FileNotFoundError, UsageError):
                    # One that was made in the future was made before the clock was set back.
                    if abs(time.time() - row.directory.stat().st_mtime) >= never_began_s:
                        self.remove(row.directory, deleted=False)
        left = [path for path in self.sessions.iterdir() if path.name.startswith(_REMOVING)]
        for path in left:
            _delete(path)
        return len(left)

    def _order(self, name: str) -> tuple[bool, str, str]:
        """Sort key: whether it is the user's own and began, then when. Ids tell the second, journals the
        microsecond; one that has none yet is the newest.
        """
        own, began = True, "~"
        try:
            with regular(self.sessions / name / FILE) as journal:
                first = first_record(journal)
        except FileNotFoundError:
            first = None
        except (OSError, BadLine, JournalError):
            return own, name[:15], began
        if first is None:
            # Whose it was to become cannot be told: its harness may have died over a child.
            own = False
        else:
            began = first.ts
            own = not isinstance(first.entry, SessionStarted) or first.entry.parent is None
        return own, name[:15], began


def _refuse_shared(home: Path) -> None:
    found = home.stat()
    if found.st_uid != os.geteuid():
        raise UsageError(f"{home} belongs to another user (uid {found.st_uid}); set USERMODE_HOME")
    if found.st_mode & stat.S_IWOTH:
        raise UsageError(f"{home} can be written by everyone; `chmod o-w` it or set USERMODE_HOME")


def _make_private(directory: Path) -> None:
    directory.mkdir(mode=0o700, exist_ok=True)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise UsageError(f"{directory} is not a directory of yours; move it away or set USERMODE_HOME")
    directory.chmod(0o700)


def _delete(directory: Path) -> None:
    """Delete a tree that a guest may have shaped: links are not followed, closed directories are opened."""
    try:
        for parent, names, _files in os.walk(directory):
            for name in names:
                path = Path(parent, name)
                if not path.is_symlink():
                    path.chmod(0o700)
        shutil.rmtree(directory)
    except OSError as exc:
        raise HarnessError(f"cannot remove {exc.filename or directory}: {exc.strerror}") from exc
