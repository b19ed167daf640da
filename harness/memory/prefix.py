"""The prefix (cache key): a digest chain over what the model is sent, and where two requests part ways.

A provider's cache holds for the beginning that two requests share. The chain names the first message that
differs, also when it was not this module's neighbours that changed it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import blake2b

from harness.messages import Message, Usage

NOTEWORTHY = 1024
"""Tokens; no provider caches less, and nothing is lost with them."""


class Prefix:
    def __init__(self) -> None:
        self.chain: list[bytes] = []
        """A digest for every message, over it and all before it."""
        self._answered = 0
        """Messages of the last request that was answered."""
        self._before: tuple[bytes, ...] | None = None
        """Their chain, where it was cut since."""
        self._last: Usage | None = None

    def cut(self, place: int) -> None:
        """From this message on the context is not as it was."""
        if self._before is None:
            self._before = tuple(self.chain[: self._answered])
        del self.chain[place:]

    def extend(self, context: Sequence[Message]) -> None:
        """Take in the messages that the chain does not reach yet."""
        for index in range(len(self.chain), len(context)):
            before = self.chain[-1] if self.chain else b""
            # Escaped: a model's arguments may hold half a surrogate pair, which has no bytes.
            said = json.dumps(context[index].model_dump()).encode()
            self.chain.append(blake2b(before + said, digest_size=16).digest())

    def difference(self) -> int | None:
        """The first message, from 0, that the last answered request had otherwise; None where none is."""
        if self._before is None:
            return None
        pairs = zip(self._before, self.chain, strict=False)
        same = next((place for place, (old, new) in enumerate(pairs) if old != new), None)
        if same is not None:
            return same
        return len(self.chain) if len(self.chain) < len(self._before) else None

    def answered(self, usage: Usage) -> str | None:
        """Take in what a request cost; what to tell when the provider's cache collapsed although it grew."""
        last, self._last = self._last, usage
        told = None
        if last is not None and _collapsed(last, usage):
            told = (
                f"the provider read {usage.cache_read_tokens:,} tokens from its cache, after "
                f"{last.cache_read_tokens:,} in the request before; {self._where()}"
            )
        self._answered, self._before = len(self.chain), None
        return told

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
