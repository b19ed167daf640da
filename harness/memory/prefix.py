"""The prefix (cache key): a digest of every message that is sent, and where two requests part ways.

A provider's cache holds for the beginning that two requests share. The digests name the first message that
differs from the request before.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.messages import Call, Message, Part, Result, Text, Thinking, Usage

NOTEWORTHY = 1024
"""Tokens; no provider caches less, and nothing is lost with them."""


class Prefix:
    def __init__(self) -> None:
        self.digests: list[int] = []
        """One for each message."""
        self._answered = 0
        """Messages of the last request that was answered."""
        self._before: tuple[int, ...] | None = None
        """Their digests, where one was changed since."""
        self._last: Usage | None = None

    def change(self, places: Iterable[int], context: Sequence[Message]) -> None:
        """These messages of the context are not as they were."""
        self._keep()
        for place in places:
            if place < len(self.digests):
                self.digests[place] = digest(context[place])

    def restart(self) -> None:
        """None of them is."""
        self._keep()
        self.digests.clear()

    def extend(self, context: Sequence[Message]) -> None:
        """Take in the messages that have come since."""
        self.digests += [digest(context[place]) for place in range(len(self.digests), len(context))]

    def difference(self) -> int | None:
        """The first message, from 0, that the last answered request had otherwise; None where none is."""
        if self._before is None:
            return None
        pairs = zip(self._before, self.digests, strict=False)
        differs = next((place for place, (old, new) in enumerate(pairs) if old != new), None)
        if differs is None and len(self.digests) < len(self._before):
            return len(self.digests)
        return differs

    def answered(self, usage: Usage) -> str | None:
        """Take in what a request cost; what to tell when the provider's cache collapsed although it grew."""
        last, self._last = self._last, usage
        told = None
        if last is not None and _collapsed(last, usage):
            told = (
                f"the provider read {usage.cache_read_tokens:,} tokens from its cache, after "
                f"{last.cache_read_tokens:,} in the request before; {self._where()}"
            )
        self._answered, self._before = len(self.digests), None
        return told

    def _keep(self) -> None:
        if self._before is None:
            self._before = tuple(self.digests[: self._answered])

    def _where(self) -> str:
        place = self.difference()
        if place is None:
            return "no message of the earlier request differs, so the cache ran out or was dropped there"
        return f"message {place + 1} is the first that differs"


def digest(message: Message) -> int:
    """Of everything in it that a provider is sent; means something in this process alone."""
    return hash((message.role, *(field for part in message.parts for field in _fields(part))))


def _fields(part: Part) -> tuple[str, ...]:
    match part:
        case Text():
            return "text", part.text
        case Thinking():
            return "thinking", part.text, part.provider, repr(part.block)
        case Call():
            return "call", part.id, part.name, part.malformed or "", repr(part.arguments)
        case Result():
            return "result", part.call_id, part.name, part.error or "", part.content


def _collapsed(last: Usage, now: Usage) -> bool:
    had, has = last.cache_read_tokens, now.cache_read_tokens
    return _sent(now) >= _sent(last) and had >= NOTEWORTHY and has * 2 < had


def _sent(usage: Usage) -> int:
    return usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
