"""The journal (event log): what a session intends and what came of it.

One JSON object a line, numbered and hash-chained (`record.py`), redacted before it is written. `append()`
returning is the commit point: a crash before it means that the entry never happened, a crash after it means
that it did. A write cut short leaves a torn tail, which the next `open` cuts off and keeps beside it.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from harness.errors import JournalError
from harness.events import CallOutcome, Entry, SessionEnded
from harness.journal.lock import failure, take_lock
from harness.journal.reading import Scan, Verdict, read, refuse_irregular, verify
from harness.journal.record import FILE, MAX_LINE, Draft, Head, Record, drafted, encode
from harness.journal.redact import Redactor, host_secrets
from harness.journal.reserve import Reserve
from harness.journal.worker import Worker

BATCH = 64
"""Records that are read before they are told."""

LAST = (CallOutcome, SessionEnded)
"""What has happened already, and is written on a full disk as long as the reserve holds."""

__all__ = ["Journal", "Torn", "Verdict", "read", "verify"]


@dataclass(frozen=True)
class Torn:
    """The end of a journal that was being written when its writer died."""

    size: int
    """Bytes."""
    kept: Path
    """Where they were put."""


class _Lines(NamedTuple):
    """What is written with one flush."""

    after: Head
    drafts: Sequence[Draft]
    data: bytes
    records: list[Record]
    head: Head


class Journal:
    """The single writer of a session's journal. `create` or `open` it; `close` releases it."""

    def __init__(self, directory: Path, lock: int, fd: int, redactor: Redactor | None) -> None:
        self.directory = directory
        self.head = Head()
        """Number and hash of the last line that is on the disk."""
        self.torn: Torn | None = None
        """What `open` had to cut off; worth a Notice."""
        self.redactor = redactor if redactor is not None else Redactor(host_secrets(os.environ))
        """Of what is written from now on."""
        self._lock = lock
        self._fd = fd
        self._size = 0
        self._refusal: JournalError | None = None
        self._reserve = Reserve(directory)
        # One thread, so that appends reach the disk in the order they were asked for.
        self._worker = Worker("journal")

    @classmethod
    def create(cls, directory: Path, *, redactor: Redactor | None = None) -> Journal:
        """Begin a session's journal. Without a redactor, the host's own secrets are redacted."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = take_lock(directory)
        try:
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            fd = os.open(directory / FILE, flags, 0o600)
        except OSError as exc:
            os.close(lock)
            if isinstance(exc, FileExistsError):
                raise JournalError(f"session {directory.name} has a journal already", code="exists") from exc
            raise failure(directory, exc) from exc
        journal = cls(directory, lock, fd, redactor)
        with journal._closed_on_error():
            journal._reserve.set_aside()
            os.fsync(fd)
            # The names, too, must survive a power cut.
            for names in (directory, directory.parent):
                _sync_directory(names)
        return journal

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        redactor: Redactor | None = None,
        told: Callable[[Record], object] = lambda record: None,
    ) -> Journal:
        """Take up a journal where it ends; a torn tail is cut off and reported in `torn`.

        `told` is told each record on the way: reading it once serves both.

        JournalError when it is missing, open elsewhere, of a newer version, or damaged before its end.
        """
        lock = take_lock(directory)
        try:
            fd = os.open(directory / FILE, os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW)
        except OSError as exc:
            os.close(lock)
            if isinstance(exc, FileNotFoundError):
                raise JournalError(f"session {directory.name} has no journal", code="missing") from exc
            raise failure(directory, exc) from exc
        journal = cls(directory, lock, fd, redactor)
        with journal._closed_on_error():
            refuse_irregular(fd)
            scan = Scan()
            with os.fdopen(os.dup(fd), "rb") as file:
                records = scan.records(file)
                # Some at a time: decoding by itself and folding by itself each stay in the processor's cache.
                while batch := list(islice(records, BATCH)):
                    for record in batch:
                        told(record)
            scan.raise_if_bad(directory, _still(directory.name))
            journal._reserve.set_aside()
            journal.head, journal._size = scan.head, scan.size
            journal._cut_tail()
        return journal

    async def append(self, entry: Entry) -> Record:
        """Write one entry; when this returns, it is on the disk. Returns it as it stands there.

        JournalError: `disk_full` (nothing was written, a smaller entry may still fit), `too_large` (so too),
        `io` (no further append will be taken). Cancelled while it writes, it finishes first: the entry is in.
        On a full disk an outcome or the session's end may still be written, out of the reserve; from then on
        nothing else is, until the journal is opened again.
        """
        return (await self.append_many([entry]))[0]

    async def append_many(
        self, entries: Sequence[Entry], told: Callable[[Sequence[Record]], object] = lambda records: None
    ) -> list[Record]:
        """Write several entries with one flush; all of them are there afterwards, or none. Who dies amid it
        leaves the first ones, or none.

        `told` is told the records once they are on the disk, also when whoever waits was cancelled.
        """
        if self._fd < 0:
            raise JournalError("the journal is closed", code="closed")
        # Here and not in the thread, whose processor would have to fetch all of it.
        lines = _lines(self.head, [drafted(self.redactor.plain(entry)) for entry in entries])
        # Cancelled, it loses a failure; the next append tells it, and a failed write leaves nothing behind.
        return await self._worker.do(partial(self._write, lines), told)

    def close(self) -> None:
        """Finish what is being written and release the session. Idempotent."""
        self._worker.close()
        if self._fd >= 0:
            self._reserve.release()
            os.close(self._fd)
            os.close(self._lock)
            self._fd = self._lock = -1

    def _write(self, lines: _Lines) -> list[Record]:
        if self._refusal is not None:
            raise JournalError(str(self._refusal), code=self._refusal.code)
        last = all(isinstance(draft.entry, LAST) for draft in lines.drafts)
        if self._reserve.spent and not last:
            raise failure(self.directory, OSError(errno.ENOSPC, ""))
        if lines.after != self.head:
            # Others were still on their way when these were made.
            lines = _lines(self.head, lines.drafts)
        self._commit(lines.data, last=last)
        self.head, self._size = lines.head, self._size + len(lines.data)
        return lines.records

    def _commit(self, data: bytes, *, last: bool) -> None:
        try:
            _write_all(self._fd, data)
            # The commit point: past here the entries happened.
            _sync(self._fd)
        except OSError as exc:
            error = self._undone(exc)
            if not last or self._refusal is not None or not self._reserve.give_up():
                raise error from exc
            self._commit(data, last=False)

    def _undone(self, exc: OSError) -> JournalError:
        """After a failed write: take back what part of it was written, or take nothing more."""
        error = failure(self.directory, exc)
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
            raise failure(self.directory, exc) from exc
        except BaseException:
            self.close()
            raise


def _lines(after: Head, drafts: Sequence[Draft]) -> _Lines:
    head, lines, records = after, [], []
    for draft in drafts:
        line, record = encode(head, draft)
        if len(line) > MAX_LINE:
            raise JournalError(f"an entry of {len(line)} bytes is beyond {MAX_LINE}", code="too_large")
        head = Head(record.seq, record.hash)
        lines.append(line)
        records.append(record)
    return _Lines(after, drafts, b"".join(lines), records, head)


def _still(session: str) -> str:
    """What a session is good for whose journal cannot be gone on with."""
    return (
        f"nothing is written after a line that cannot be trusted. `usermode log {session}` shows what is "
        f"good before it; `usermode diff {session}` and `apply` still have the session's work"
    )


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
