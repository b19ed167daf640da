"""The prefix (cache key): what the last request was made of, and where the next one parts from it.

A provider's cache holds for the beginning that two requests share.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.messages import Message, Usage

NOTEWORTHY = 1024
"""Tokens; no provider caches less, and nothing is lost with them."""


class Prefix:
    def __init__(self) -> None:
        self.messages: list[Message] = []
        """Of the next request; those of the context, not copies."""
        self._answered = 0
        """Messages of the last request that was answered."""
        self._before: tuple[Message, ...] | None = None
        """They themselves, where one was changed since."""
        self._last: Usage | None = None

    def change(self, places: Iterable[int], context: Sequence[Message]) -> None:
        """These messages of the context are not as they were."""
        self._keep()
        for place in places:
            if place < len(self.messages):
                self.messages[place] = context[place]

    def restart(self) -> None:
        """None of them is."""
        self._keep()
        self.messages.clear()

    def extend(self, context: Sequence[Message]) -> None:
        """Take in the messages that have come since."""
        self.messages += context[len(self.messages) :]

    def difference(self) -> int | None:
        """The first message, from 0, that the last answered request had otherwise; None where none is."""
        if self._before is None:
            return None
        pairs = zip(self._before, self.messages, strict=False)
        differs = next(
            (place for place, (old, new) in enumerate(pairs) if old is not new and old != new), None
        )
        if differs is None and len(self.messages) < len(self._before):
            return len(self.messages)
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
        self._answered, self._before = len(self.messages), None
        return told

    def _keep(self) -> None:
        if self._before is None:
            self._before = tuple(self.messages[: self._answered])

    def _where(self) -> str:
        place = self.difference()
        if place is None:
            return "no message of the earlier request differs, so the cache ran out or was dropped there"
        return f"message {place + 1} is the first that differs"


def _collapsed(last: Usage, now: Usage) -> bool:
    had, has = last.cache_read_tokens, now.cache_read_tokens
    return _sent(now) >= _sent(last) and had >= NOTEWORTHY and has * 2 < had


def _sent(usage: Usage) -> int:
    return usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
