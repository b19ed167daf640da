"""The replayed model: the replies a session recorded, as long as it is asked the same again.

Every request is compared with the recorded conversation up to the reply that is due. Where they differ the
session has drifted, and what the model would have said is unknown: it ends there, with the first differing
byte.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterable, Sequence
from pathlib import Path
from typing import get_args

from harness.errors import UsageError
from harness.events import Compacted, Entry, MessageAdded, Notice
from harness.memory.rebuild import Rebuild
from harness.messages import Message, Text, Thinking, Usage
from harness.providers.base import Delta, ProviderError, Reply, Request, Stop, TextDelta, ThinkingDelta
from harness.reading import read

_REDACTED, _REDACTED_END = "‹redacted:", "›"
_CONTEXT = 24


class ReplayProvider:
    """Plays the replies of one recorded session, in order. `source` names the recording in messages."""

    name = "replay"

    def __init__(self, entries: Iterable[Entry], *, source: str = "recording") -> None:
        self.model = source
        self._entries = list(entries)
        self._replies = [
            (place, entry)
            for place, entry in enumerate(self._entries)
            if isinstance(entry, MessageAdded) and entry.message.role == "assistant"
        ]
        if not self._replies:
            raise UsageError(f"{source} holds no reply of a model to replay")
        self._told = Rebuild()
        self._next = 0
        """The first entry that is not in it yet."""
        self._summaries = [entry for entry in self._entries if isinstance(entry, Compacted) and _asked(entry)]
        self._refused: set[int] = set()
        """Recorded overflows that were told again."""

    @classmethod
    def from_journal(cls, path: Path) -> ReplayProvider:
        """From a journal (its file, or its session's directory); JournalError when it cannot be trusted."""
        return cls((record.entry for record in read(path)), source=str(path))

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        if request.purpose == "summary":
            yield self._summary()
            return
        turn = request.replies + sum(message.role == "assistant" for message in request.messages)
        if turn >= len(self._replies):
            raise self._drift(f"it holds {len(self._replies)} replies and the session asks for one more")
        place, entry = self._replies[turn]
        self._overflow(self._replies[turn - 1][0] if turn else 0, place)
        self._compare(request.messages, self._recorded(place))
        reply = Reply(entry.message, entry.usage or Usage(), _stop(entry))
        for part in reply.message.parts:
            if isinstance(part, Text | Thinking) and part.text:
                yield (TextDelta if isinstance(part, Text) else ThinkingDelta)(part.text)
                await asyncio.sleep(0)
        yield reply

    async def aclose(self) -> None:
        return None

    def _summary(self) -> Reply:
        """The next one that was recorded: a session compacts where its recording did."""
        if not self._summaries:
            raise ProviderError("request", f"{self.model} holds no further summary")
        entry = self._summaries.pop(0)
        if entry.fallback:
            raise ProviderError("request", entry.fallback)
        text = json.dumps(entry.summary)
        return Reply(Message(role="assistant", parts=(Text(text=text),)), entry.usage, "end")

    def _overflow(self, begin: int, end: int) -> None:
        """Refuse the request, where the recording says that its provider did."""
        for place in range(begin, end):
            entry = self._entries[place]
            if isinstance(entry, Notice) and entry.code == "overflow" and place not in self._refused:
                self._refused.add(place)
                raise ProviderError("context_overflow", entry.text)

    def _recorded(self, place: int) -> Sequence[Message]:
        """The messages as the model was sent them before this entry: what was evicted by then, as stubs."""
        if place < self._next:
            self._told, self._next = Rebuild(), 0
        for entry in self._entries[self._next : place]:
            self._told.feed(entry)
        self._next = place
        self._told.settle()
        return self._told.memory.assemble(self._told.messages)

    def _compare(self, now: Sequence[Message], recorded: Sequence[Message]) -> None:
        if now == recorded:
            return
        for number, (ours, theirs) in enumerate(zip(now, recorded, strict=False), 1):
            if ours != theirs:
                self._compare_message(number, ours, theirs)
        if len(now) != len(recorded):
            raise self._drift(f"the session sends {len(now)} messages where {len(recorded)} were recorded")

    def _compare_message(self, number: int, now: Message, recorded: Message) -> None:
        ours, theirs = now.model_dump_json(), recorded.model_dump_json()
        if _matches(ours, theirs):
            return
        at = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), None)
        at = min(len(ours), len(theirs)) if at is None else at
        before = slice(max(0, at - _CONTEXT), at + _CONTEXT)
        raise self._drift(
            f"message {number} ({recorded.role}) differs from byte {len(theirs[:at].encode())} on: "
            f"recorded {theirs[before]!r}, now {ours[before]!r}"
        )

    def _drift(self, what: str) -> ProviderError:
        return ProviderError("drift", f"the session drifted from {self.model}: {what}")


def _asked(entry: Compacted) -> bool:
    """Whether the model was asked for its summary."""
    return bool(entry.fallback) or entry.usage.total > 0


def _stop(entry: MessageAdded) -> Stop:
    for stop in get_args(Stop):
        if stop == entry.stop:
            return stop  # type: ignore[no-any-return]
    return "calls" if entry.message.calls else "end"


def _matches(now: str, recorded: str) -> bool:
    """Equal, where a redaction in the recording stands for any text."""
    head, *rest = recorded.split(_REDACTED)
    if not rest or not now.startswith(head):
        return False
    at = len(head)
    pieces = [piece.partition(_REDACTED_END)[2] for piece in rest]
    for piece in pieces[:-1]:
        at = now.find(piece, at)
        if at < 0:
            return False
        at += len(piece)
    return len(now) - at >= len(pieces[-1]) and now.endswith(pieces[-1])
