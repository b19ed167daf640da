"""Reading a journal back: its records one at a time, and a verdict on whether it is whole."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from harness.errors import JournalError
from harness.journal.lock import failure
from harness.journal.record import FILE, MAX_LINE, BadLine, Head, Record, decode


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


def read(path: Path) -> Iterator[Record]:
    """The records of a journal (its file, or its session's directory), the chain checked on the way.

    A torn tail ends it quietly; anything else that is wrong is a JournalError naming the line.
    """
    scan = Scan()
    with _opened(path) as file:
        yield from scan.records(file)
    scan.raise_if_bad(path)


def verify(path: Path, *, head: str | None = None) -> Verdict:
    """Check every line. Lines taken from the end leave no trace in a chain: a known `head` shows them."""
    scan = Scan()
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


class Scan:
    """One pass over a journal: the records up to the first bad line, and what was found there."""

    def __init__(self) -> None:
        self.head = Head()
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

    def raise_if_bad(self, path: Path, forward: str = "see `usermode verify`") -> None:
        """`forward` says what can be done about it."""
        if self.bad_line is not None:
            raise JournalError(f"{path}: line {self.bad_line}: {self.reason}; {forward}", code="corrupt")


def regular(file: Path) -> BinaryIO:
    """A journal's file, open. OSError for what is none: reading a FIFO would wait for ever."""
    fd = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        refuse_irregular(fd)
        return open(fd, "rb", buffering=1 << 18)
    except BaseException:
        os.close(fd)
        raise


def refuse_irregular(fd: int) -> None:
    """OSError for the descriptor of anything but a plain file."""
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise OSError(errno.EINVAL, "it is no plain file")


def _opened(path: Path) -> BinaryIO:
    file = path / FILE if path.is_dir() else path
    try:
        return regular(file)
    except FileNotFoundError as exc:
        raise JournalError(f"there is no journal at {file}", code="missing") from exc
    except OSError as exc:
        raise failure(path, exc) from exc
