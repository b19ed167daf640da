"""Server-sent events: bytes in, in whatever packets; events out, or an error that says they are none."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from harness.messages import JsonObject
from harness.provider import ProviderError

_EVENT_BYTES = 32 << 20
"""The largest single event; a whole reply is repeated in the last one of some services."""
_STREAM_BYTES = 256 << 20


@dataclass(frozen=True)
class Event:
    """One server-sent event, or the bare `[DONE]` of chat services (`name` "[DONE]", no data)."""

    name: str
    data: JsonObject


_LINE_END = re.compile(rb"\r\n|\n|\r")


class EventDecoder:
    """Server-sent events from chunks cut anywhere; raises ProviderError("garbage") for what is none."""

    def __init__(self, who: str) -> None:
        self._who = who
        self._pieces: list[bytes] = []
        self._size = 0
        self._after_cr = False
        self._name, self._data = "", list[bytes]()
        self._total, self._events = 0, 0

    def feed(self, chunk: bytes) -> Iterator[Event]:
        self._total += len(chunk)
        if self._total > _STREAM_BYTES:
            raise self._garbage(f"more than {_STREAM_BYTES >> 20} MiB for one reply")
        if self._after_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]
        self._after_cr = chunk.endswith(b"\r")
        start = 0
        for end in _LINE_END.finditer(chunk):
            line = b"".join((*self._pieces, chunk[start : end.start()]))
            self._pieces.clear()
            start = end.end()
            if (event := self._line(line)) is not None:
                yield event
        self._pieces.append(chunk[start:])
        self._size = self._size + len(chunk) if start == 0 else len(chunk)
        if self._size > _EVENT_BYTES:
            raise self._garbage(f"an event of more than {_EVENT_BYTES >> 20} MiB")

    def unfinished(self) -> ProviderError:
        """The error for an answer that ended here, before its reply was whole."""
        if self._total and not self._events:
            return self._garbage("no event stream")
        return ProviderError("dropped", f"{self._who} ended the stream in the middle of a reply")

    def _line(self, line: bytes) -> Event | None:
        if not line:
            name, data = self._name, b"\n".join(self._data)
            self._name, self._data = "", []
            return self._event(name, data) if data else None
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"event":
            self._name = value.decode("ascii", "replace")
        elif field == b"data":
            self._data.append(value)
        return None  # A comment or a field of no use here: a sign of life, which the clock has seen.

    def _event(self, name: str, data: bytes) -> Event:
        self._events += 1
        if data.strip() == b"[DONE]":
            return Event("[DONE]", {})
        try:
            value = json.loads(data.decode())
        except (ValueError, RecursionError) as exc:
            raise self._garbage("an event that is not JSON") from exc
        if not isinstance(value, dict):
            raise self._garbage("an event that is not a JSON object")
        return Event(name or str(value.get("type", "")), value)

    def _garbage(self, what: str) -> ProviderError:
        return ProviderError("garbage", f"{self._who} sent {what}")
