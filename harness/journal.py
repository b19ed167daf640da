"""The journal (event log): what a session intends and what came of it.

One JSON object a line, numbered and hash-chained (`record.py`), redacted before it is written. `append()`
returning is the commit point: a crash before it means that the entry never happened, a crash after it means
that it did. A write cut short leaves a torn tail, which the next `open` cuts off and keeps beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from harness.errors import JournalError
from harness.events import Entry
from harness.record import GENESIS, MAX_LINE, BadLine, Head, Record, decode, encode
from harness.redact import Redactor, host_secrets

FILE = "journal.jsonl"
LOCK = "lock"
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_PATIENCE_S = 0.25
"""How long a lock may be held by someone who only looks whether it is (`locked`)."""


@dataclass(frozen=True)
class Torn:
    """The end of a journal that was being written when its writer died."""

    size: int
    """Bytes."""
    kept: Path
    """Where they were put."""


@dataclass(frozen=True)
class Verdict:
    ok: bool
    lines: int
    """Good ones, from the start."""
    first_bad_line: int | None
    reason: str
    head_hash: str
    torn_bytes: int
    """After the last whole line; a running writer, or one that was killed, leaves them."""


class Journal:
    """The single writer of a session's journal. `create` or `open` it; `close` releases it."""

    def __init__(self, directory: Path, lock: int, fd: int, redactor: Redactor | None) -> None:
        self.directory = directory
        self.head = Head()
        """Number and hash of the last line that is on the disk."""
        self.torn: Torn | None = None
        """What `open` had to cut off; worth a Notice."""
        self._redactor = redactor if redactor is not None else Redactor(host_secrets(os.environ))
        self._lock = lock
        self._fd = fd
        self._size = 0
        self._refusal: JournalError | None = None
        # One thread, so that appends reach the disk in the order they were asked for.
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal")

    @classmethod
    def create(cls, directory: Path, *, redactor: Redactor | None = None) -> Journal:
        """Begin a session's journal. Without a redactor, the host's own secrets are redacted."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = _take_lock(directory)
        try:
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            fd = os.open(directory / FILE, flags, 0o600)
        except OSError as exc:
            os.close(lock)
            if isinstance(exc, FileExistsError):
                raise JournalError(f"session {directory.name} has a journal already", code="exists") from exc
            raise _failed(directory, exc) from exc
        journal = cls(directory, lock, fd, redactor)
        with journal._closed_on_error():
            os.fsync(fd)
            # The names, too, must survive a power cut.
            for names in (directory, directory.parent):
                _sync_directory(names)
        return journal

    @classmethod
    def open(cls, directory: Path, *, redactor: Redactor | None = None) -> Journal:
        """Take up a journal where it ends; a torn tail is cut off and reported in `torn`.

        JournalError when it is missing, open elsewhere, of a newer version, or damaged before its end.
        """
        lock = _take_lock(directory)
        try:
            fd = os.open(directory / FILE, os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW)
        except OSError as exc:
            os.close(lock)
            if isinstance(exc, FileNotFoundError):
                raise JournalError(f"session {directory.name} has no journal", code="missing") from exc
            raise _failed(directory, exc) from exc
        journal = cls(directory, lock, fd, redactor)
        with journal._closed_on_error():
            scan = _Scan()
            with os.fdopen(os.dup(fd), "rb") as file:
                for _ in scan.records(file):
                    pass
            scan.raise_if_bad(directory)
            journal.head, journal._size = scan.head, scan.size
            journal._cut_tail()
        return journal

    async def append(self, entry: Entry) -> Record:
        """Write one entry; when this returns, it is on the disk. Returns it as it stands there.

        JournalError: `disk_full` (nothing was written, a smaller entry may still fit), `too_large` (so too),
        `io` (no further append will be taken). Cancelled while it writes, it finishes first: the entry is in.
        """
        return (await self.append_many([entry]))[0]

    async def append_many(self, entries: Sequence[Entry]) -> list[Record]:
        """Write several entries with one flush; all of them are there afterwards, or none."""
        job = asyncio.get_running_loop().run_in_executor(self._worker, self._write, list(entries))
        try:
            return await asyncio.shield(job)
        except asyncio.CancelledError:
            while not job.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([job])
            # A failure is told by the next append; a failed write leaves nothing behind.
            job.exception()
            raise

    def close(self) -> None:
        """Finish what is being written and release the session. Idempotent."""
        self._worker.shutdown(wait=True)
        if self._fd >= 0:
            os.close(self._fd)
            os.close(self._lock)
            self._fd = self._lock = -1
        self._refusal = self._refusal or JournalError("the journal is closed", code="closed")

    def _write(self, entries: list[Entry]) -> list[Record]:
        if self._refusal is not None:
            raise JournalError(str(self._refusal), code=self._refusal.code)
        head, lines, records = self.head, [], []
        for entry in entries:
            line = encode(head, self._redactor.plain(entry))
            if len(line) > MAX_LINE:
                raise JournalError(f"an entry of {len(line)} bytes is beyond {MAX_LINE}", code="too_large")
            # What was written is read back from the same bytes, so nothing is written that cannot be read.
            record = decode(line, head)
            head = Head(record.seq, record.hash)
            lines.append(line)
            records.append(record)
        data = b"".join(lines)
        try:
            _write_all(self._fd, data)
            # The commit point: past here the entries happened.
            _sync(self._fd)
        except OSError as exc:
            raise self._undone(exc) from exc
        self.head, self._size = head, self._size + len(data)
        return records

    def _undone(self, exc: OSError) -> JournalError:
        """After a failed write: take back what part of it was written, or take nothing more."""
        error = _failed(self.directory, exc)
        if error.code != "disk_full":
            # After a failed flush nobody knows what is on the disk.
            self._refusal = error
        try:
            os.ftruncate(self._fd, self._size)
            _sync(self._fd)
        except OSError:
            self._refusal = error
        return error

    def _cut_tail(self) -> None:
        torn = os.fstat(self._fd).st_size - self._size
        if torn <= 0:
            return
        kept = self.directory / f"torn-{self.head.seq + 1}.bin"
        with open(kept, "wb", opener=lambda path, flags: os.open(path, flags | os.O_NOFOLLOW, 0o600)) as out:
            offset = self._size
            while piece := os.pread(self._fd, 1 << 20, offset):
                out.write(piece)
                offset += len(piece)
            out.flush()
            os.fsync(out.fileno())
        os.ftruncate(self._fd, self._size)
        os.fsync(self._fd)
        self.torn = Torn(torn, kept)

    @contextlib.contextmanager
    def _closed_on_error(self) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            self.close()
            raise _failed(self.directory, exc) from exc
        except BaseException:
            self.close()
            raise


def read(path: Path) -> Iterator[Record]:
    """The records of a journal (its file, or its session's directory), the chain checked on the way.

    A torn tail ends it quietly; anything else that is wrong is a JournalError naming the line.
    """
    scan = _Scan()
    with _opened(path) as file:
        yield from scan.records(file)
    scan.raise_if_bad(path)


def verify(path: Path, *, head: str | None = None) -> Verdict:
    """Check every line. Lines taken from the end leave no trace in a chain: a known `head` shows them."""
    scan = _Scan()
    with _opened(path) as file:
        for _ in scan.records(file):
            pass
    bad, reason = scan.bad_line, scan.reason
    if bad is None and head is not None and head != scan.head.hash:
        bad, reason = (
            scan.head.seq + 1,
            "the journal does not end with the expected hash: lines are missing or differ",
        )
    return Verdict(bad is None, scan.head.seq, bad, reason, scan.head.hash, scan.torn)


@contextlib.contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Hold a session's lock without writing to it; JournalError while a process has it open."""
    lock = _take_lock(directory)
    try:
        yield
    finally:
        os.close(lock)


def locked(directory: Path) -> bool:
    """Whether a process has the session's journal open for writing."""
    try:
        fd = os.open(directory / LOCK, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


class _Scan:
    """One pass over a journal: the records up to the first bad line, and what was found there."""

    def __init__(self) -> None:
        self.head = Head(0, GENESIS)
        self.size = 0
        """Bytes of the good lines."""
        self.torn = 0
        self.bad_line: int | None = None
        self.reason = ""

    def records(self, file: BinaryIO) -> Iterator[Record]:
        while line := file.readline(MAX_LINE + 1):
            if not line.endswith(b"\n") and len(line) <= MAX_LINE:
                self.torn = len(line)
                return
            try:
                if len(line) > MAX_LINE:
                    raise BadLine(f"it is longer than {MAX_LINE} bytes")
                record = decode(line, self.head)
            except BadLine as exc:
                if exc.unparsable and not file.read(1):
                    self.torn = len(line)
                    return
                self.bad_line, self.reason = self.head.seq + 1, str(exc)
                return
            self.head = Head(record.seq, record.hash)
            self.size += len(line)
            yield record

    def raise_if_bad(self, path: Path) -> None:
        if self.bad_line is not None:
            raise JournalError(
                f"{path}: line {self.bad_line}: {self.reason}; see `usermode verify`", code="corrupt"
            )


def _opened(path: Path) -> BinaryIO:
    file = path / FILE if path.is_dir() else path
    try:
        return open(file, "rb", buffering=1 << 18)
    except FileNotFoundError as exc:
        raise JournalError(f"there is no journal at {file}", code="missing") from exc
    except OSError as exc:
        raise _failed(path, exc) from exc


def _take_lock(directory: Path) -> int:
    """An exclusive lock that ends with this process, however it ends."""
    try:
        fd = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except FileNotFoundError as exc:
        raise JournalError(f"there is no session at {directory}", code="missing") from exc
    except OSError as exc:
        raise _failed(directory, exc) from exc
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
    os.ftruncate(fd, 0)
    os.pwrite(fd, str(os.getpid()).encode(), 0)
    return fd


def _failed(directory: Path, exc: OSError) -> JournalError:
    if exc.errno in _FULL:
        return JournalError(
            f"disk full: the journal of session {directory.name} cannot grow; free some space, then go on",
            code="disk_full",
        )
    return JournalError(f"the journal of session {directory.name} failed: {exc.strerror or exc}", code="io")


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _sync(fd: int) -> None:
    # fdatasync also flushes the file's size, which is all the metadata that reading needs.
    (os.fdatasync if hasattr(os, "fdatasync") else os.fsync)(fd)


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
