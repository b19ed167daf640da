"""What a request costs. Read off the providers' public price pages on 2026-11-22; they change, and an entry
here does not change by itself: an unknown or dated model has no price, which is never the same as costing
nothing.

Sources: Anthropic's "Pricing" in its platform documentation (cache writes at the five-minute rate, which is
the one asked for) and OpenAI's "Pricing" in its API documentation (standard tier).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from harness.messages import Usage


@dataclass(frozen=True)
class Price:
    """US dollars for a million tokens."""

    input: float
    output: float
    cache_read: float
    cache_write: float
    above: tuple[int, Price] | None = None
    """Prompts longer than so many tokens cost this instead, all of their tokens."""


def _claude(input: float, output: float, read: float = 0.1, above: tuple[int, Price] | None = None) -> Price:
    return Price(input, output, input * read, input * 1.25, above)


def _gpt(input: float, output: float, read: float = 0.1, *, long: bool = False) -> Price:
    above = (272_000, Price(2 * input, 1.5 * output, 2 * input * read, 2 * input)) if long else None
    return Price(input, output, input * read, input, above)


PRICES: dict[str, dict[str, Price]] = {
    "anthropic": {
        "claude-fable-5-1": _claude(10, 50, 0.025),
        "claude-mythos-5-1": _claude(10, 50, 0.025),
        "claude-fable-5": _claude(10, 50),
        "claude-mythos-5": _claude(10, 50),
        "claude-opus-5-5": _claude(4, 20, 0.05),
        "claude-opus-5": _claude(5, 25),
        "claude-opus-4-8": _claude(5, 25),
        "claude-opus-4-7": _claude(5, 25),
        "claude-opus-4-6": _claude(5, 25),
        "claude-opus-4-5": _claude(5, 25),
        "claude-sonnet-5-5": _claude(2, 10, 0.05),
        "claude-sonnet-5": _claude(2, 10),
        "claude-sonnet-4-6": _claude(3, 15),
        "claude-sonnet-4-5": _claude(3, 15),
        "claude-haiku-5-5": _claude(0.1, 0.5, above=(100_000, _claude(0.5, 2.5))),
        "claude-haiku-4-5": _claude(1, 5),
    },
    "openai": {
        "gpt-5.5": _gpt(5, 30, long=True),
        "gpt-5.4": _gpt(2.5, 15, long=True),
        "gpt-5.4-mini": _gpt(0.75, 4.5),
        "gpt-5.4-nano": _gpt(0.2, 1.25),
        "gpt-5": _gpt(1.25, 10),
        "gpt-5-mini": _gpt(0.25, 2),
        "gpt-5-nano": _gpt(0.05, 0.4),
        "gpt-4.1": _gpt(2, 8, 0.25),
        "gpt-4.1-mini": _gpt(0.4, 1.6, 0.25),
        "gpt-4o": _gpt(2.5, 10, 0.5),
        "gpt-4o-mini": _gpt(0.15, 0.6, 0.5),
    },
}
_FREE = {"scripted", "replay"}
"""No service is asked, so nothing is charged: a known price, and zero."""
_SNAPSHOT = re.compile(r"-(\d{8}|\d{4}-\d\d-\d\d)$")


def cost_usd(model: str, usage: Usage) -> float | None:
    """What `usage` cost on `provider:model`; None where the price is not known.

    A server behind `openai-chat` sets prices of its own, so its models have none here, whatever their names.
    """
    provider, _, name = model.partition(":")
    if provider in _FREE:
        return 0.0
    price = PRICES.get(provider, {}).get(_SNAPSHOT.sub("", name))
    if price is None:
        return None
    if price.above and usage.total - usage.output_tokens > price.above[0]:
        price = price.above[1]
    return (
        usage.input_tokens * price.input
        + usage.output_tokens * price.output
        + usage.cache_read_tokens * price.cache_read
        + usage.cache_write_tokens * price.cache_write
    ) / 1_000_000
