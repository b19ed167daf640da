"""The replayed model: the replies a session recorded, as long as it is asked the same again.

Every request is compared with the recorded conversation up to the reply that is due. Where they differ the
session has drifted, and what the model would have said is unknown: it ends there, with the first differing
byte. What may differ is in `drift.py`.

A child of the session is played from the child's own journal, which lies beside its parent's.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import get_args

from harness.errors import JournalError, UsageError
from harness.events import CallOutcome, ChildStarted, Compacted, Entry, MessageAdded, Notice, SessionStarted
from harness.journal.reading import read
from harness.journal.record import FILE
from harness.memory.rebuild import Rebuild
from harness.messages import Message, Text, Thinking, Usage
from harness.provider import Delta, ProviderError, Reply, Request, Stop, TextDelta, ThinkingDelta
from harness.providers.drift import drift
from harness.store import SESSION_ID


class ReplayProvider:
    """Plays the replies of one recorded session, in order. `source` names the recording in messages,
    `children` are the recordings of the sessions that it started, by the ids of the calls that did.
    """

    name = "replay"

    def __init__(
        self,
        entries: Iterable[Entry],
        *,
        source: str = "recording",
        children: Mapping[str, ReplayProvider] | None = None,
    ) -> None:
        self.model = source
        self._entries = list(entries)
        self._children = children or {}
        self._ids = {one.session for one in self._entries if isinstance(one, SessionStarted | ChildStarted)}
        self._replies = [
            (place, entry)
            for place, entry in enumerate(self._entries)
            if isinstance(entry, MessageAdded) and entry.message.role == "assistant"
        ]
        # A child may have ended before it said anything.
        if not self._replies and not _is_child(self._entries):
            raise UsageError(f"{source} holds no reply of a model to replay")
        self._told = Rebuild()
        self._next = 0
        """The first entry that is not in it yet."""
        self._summaries = [entry for entry in self._entries if isinstance(entry, Compacted) and _asked(entry)]
        self._refused: set[int] = set()
        """Recorded overflows that were told again."""

    @classmethod
    def from_journal(cls, path: Path) -> ReplayProvider:
        """From a journal (its file, or its session's directory) and its children's, which lie beside it.

        JournalError when one of them cannot be trusted, UsageError when a child's is gone.
        """
        return cls._opened(path.absolute(), frozenset())

    @classmethod
    def _opened(cls, path: Path, above: frozenset[str]) -> ReplayProvider:
        entries = [record.entry for record in read(path)]
        beside = (path if path.is_dir() else path.parent).parent
        children = {}
        for child in _children(path, entries, beside):
            if child.session in above:
                raise JournalError(f"{path}: {child.session} cannot be beneath itself", code="corrupt")
            children[child.call_id] = cls._opened(beside / child.session, above | {child.session})
        return cls(entries, source=str(path), children=children)

    def of_child(self, call_id: str) -> ReplayProvider:
        """What the session said that this call started. UsageError where none was recorded."""
        if (child := self._children.get(call_id)) is None:
            raise UsageError(f"in {self.model} no session of its own was started by {call_id}")
        return child

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        if request.purpose == "summary":
            yield self._summary()
            return
        turn = request.replies + sum(message.role == "assistant" for message in request.messages)
        if turn >= len(self._replies):
            raise self._drift(f"it holds {len(self._replies)} replies and the session asks for one more")
        place, entry = self._replies[turn]
        self._overflow(self._replies[turn - 1][0] if turn else 0, place)
        if (found := drift(request.messages, self._recorded(place), self._ids)) is not None:
            raise self._drift(found)
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


def _is_child(entries: Sequence[Entry]) -> bool:
    return any(isinstance(entry, SessionStarted) and entry.parent is not None for entry in entries[:1])


def _children(path: Path, entries: Sequence[Entry], beside: Path) -> Iterator[ChildStarted]:
    """Those that have a journal. UsageError for one that ran and has none any more."""
    # A child that could not be started may have left nothing.
    ended = [entry for entry in entries if isinstance(entry, CallOutcome)]
    ran = {outcome.result.call_id for outcome in ended if "session" in outcome.details}
    for child in entries:
        if not isinstance(child, ChildStarted):
            continue
        if not SESSION_ID.fullmatch(child.session):
            raise JournalError(f"{path}: {child.session[:40]!r} is no session's id", code="corrupt")
        if (beside / child.session / FILE).exists():
            yield child
        elif child.call_id in ran:
            raise UsageError(
                f"{path} started the child {child.name}, whose journal is gone, so what it said cannot be "
                f"played: put it back at {beside / child.session}, or replay another session"
            )
