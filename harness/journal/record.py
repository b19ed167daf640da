"""The form of a journal line: pure bytes in, pure values out; docs/journal.md describes it for strangers.

A line is one JSON object whose last member is `hash`: the SHA-256 of the line's own bytes before `,"hash":`.
Those bytes hold the hash of the line before (`prev`), so no canonical form of JSON is needed to check a line.
"""

from __future__ import annotations

import hashlib
import json
import time
from functools import lru_cache
from typing import Annotated, Any, NamedTuple

from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import to_json

from harness.errors import JournalError
from harness.events import ENTRY, VERSION, Entry
from harness.messages import Value

FILE = "journal.jsonl"
"""Its name in a session's directory."""
GENESIS = "0" * 64
"""`prev` of the first line."""
MAX_LINE = 32 << 20
"""Bytes of one line, its newline included."""

_HASH = b',"hash":"'
_TAIL = len(_HASH) + 64 + len(b'"}')


class Record(NamedTuple):
    """One entry as it stands in the journal, redacted."""

    seq: int
    ts: str
    """RFC 3339, UTC, microseconds."""
    entry: Entry
    hash: str


class Draft(NamedTuple):
    """An entry as it will stand in the journal, redacted, before it has its place there."""

    entry: Entry
    json: bytes


class Head(NamedTuple):
    """Where a journal ends: what the next line must follow."""

    seq: int = 0
    hash: str = GENESIS


class BadLine(Exception):
    """A line is not what a journal's next line can be; the message says why, without quoting it."""

    def __init__(self, reason: str, *, unparsable: bool = False) -> None:
        super().__init__(reason)
        self.unparsable = unparsable
        """Not even JSON: what a write that was cut short leaves."""


class _Line(Value):
    v: int
    seq: int
    ts: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")]
    prev: str
    entry: Annotated[Entry, Field(discriminator="kind")]
    hash: str


_LINE = TypeAdapter(_Line).validator


def drafted(entry: Any) -> Draft:
    """A plain entry (`Redactor.plain`), checked and encoded. BadLine when it is none: nothing is written that
    could not be read back.
    """
    try:
        # Of plain JSON values; checked as such they need not be parsed out of the line again.
        checked = ENTRY.validator.validate_python(entry)
    except ValidationError as exc:
        raise _not_an_entry(exc) from None
    # A plain value holds nothing that has no JSON, so nothing is put in its place here.
    return Draft(checked, to_json(entry))


def encode(after: Head, draft: Draft) -> tuple[bytes, Record]:
    """The line, newline included, and the record `decode` makes of it."""
    seq, ts = after.seq + 1, _timestamp(time.time_ns() // 1000)
    begin = f'{{"v":{VERSION},"seq":{seq},"ts":"{ts}","prev":"{after.hash}","entry":'
    body = begin.encode() + draft.json
    digest = hashlib.sha256(body).hexdigest()
    return body + _HASH + digest.encode() + b'"}\n', Record(seq, ts, draft.entry, digest)


def decode(line: bytes, after: Head | None) -> Record:
    """The record of a whole line, newline included, or BadLine. Without `after`, by itself alone."""
    raw = line.rstrip(b"\n")
    try:
        found = _LINE.validate_json(raw)
    except ValidationError as exc:
        raise _why(raw, exc) from None
    if found.v != VERSION:
        raise _version(found.v)
    body = raw[:-_TAIL]
    if raw[-_TAIL:] != _HASH + found.hash.encode() + b'"}':
        raise BadLine("its last member is not the hash")
    if hashlib.sha256(body).hexdigest() != found.hash:
        raise BadLine("its content does not match its hash")
    if after is not None:
        if found.seq != after.seq + 1:
            raise BadLine(f"it is numbered {found.seq}, and {after.seq + 1} was expected")
        if found.prev != after.hash:
            raise BadLine("it does not follow the line before it")
    return Record(found.seq, found.ts, found.entry, found.hash)


def _why(raw: bytes, exc: ValidationError) -> BadLine | JournalError:
    try:
        line = json.loads(raw)
    except (ValueError, RecursionError):
        return BadLine("it is not JSON", unparsable=True)
    version = line.get("v") if isinstance(line, dict) else None
    if isinstance(version, int) and version > VERSION:
        return _version(version)
    return _not_an_entry(exc)


def _not_an_entry(exc: ValidationError) -> BadLine:
    first = exc.errors(include_input=False, include_url=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return BadLine(f"it is not an entry of version {VERSION} ({where}: {first['msg']})")


def _version(version: int) -> JournalError:
    return JournalError(
        f"the journal has version {version} and this usermode reads version {VERSION}; use a newer usermode",
        code="version",
    )


def _timestamp(microseconds: int) -> str:
    second, rest = divmod(microseconds, 1_000_000)
    return f"{_second(second)}.{rest:06}Z"


@lru_cache(maxsize=1)
def _second(since_epoch: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(since_epoch))
