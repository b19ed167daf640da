"""The lock of a session: one process writes its journal, and the others can see that one does."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from harness.errors import JournalError

LOCK = "lock"
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_PATIENCE_S = 0.25
"""How long the lock may be held by someone who only looks whether it is (`locked`)."""


def take_lock(directory: Path) -> int:
    """An exclusive lock that ends with this process, however it ends."""
    try:
        fd = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except FileNotFoundError as exc:
        raise JournalError(f"there is no session at {directory}", code="missing") from exc
    except OSError as exc:
        raise failure(directory, exc) from exc
    give_up = time.monotonic() + _PATIENCE_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() < give_up:
                time.sleep(0.01)
                continue
            holder = os.pread(fd, 20, 0).decode("ascii", "replace").strip()
            os.close(fd)
            raise JournalError(
                f"session {directory.name} is open in another process (pid {holder or 'unknown'})",
                code="locked",
            ) from None
    try:
        os.ftruncate(fd, 0)
        os.pwrite(fd, str(os.getpid()).encode(), 0)
    except OSError as exc:
        os.close(fd)
        raise failure(directory, exc) from exc
    return fd


@contextlib.contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Hold a session's lock without writing to it; JournalError while a process has it open."""
    lock = take_lock(directory)
    try:
        yield
    finally:
        os.close(lock)


def locked(directory: Path) -> bool:
    """Whether a process has the session's journal open for writing."""
    try:
        fd = os.open(directory / LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def failure(directory: Path, exc: OSError) -> JournalError:
    """The error of a session's files, with its code."""
    if exc.errno in _FULL:
        return JournalError(
            f"disk full: the journal of session {directory.name} cannot grow; free some space, then go on",
            code="disk_full",
        )
    return JournalError(f"the journal of session {directory.name} failed: {exc.strerror or exc}", code="io")
