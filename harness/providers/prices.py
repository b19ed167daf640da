"""What a request costs: only figures read off the provider's own price page, on the date given here.

Prices change, and a row here does not change by itself. A model without a row has no price, which is never
the same as costing nothing; a price that is only known second-hand is left out.

Source, 2026-11-22: "Pricing" and the models' own pages in Anthropic's platform documentation. Cache writes
are at the five-minute rate, the one that is asked for.
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


PRICES: dict[str, dict[str, Price]] = {
    "anthropic": {
        "claude-fable-5-1": Price(10, 50, 0.25, 12.5),
        "claude-mythos-5-1": Price(10, 50, 0.25, 12.5),
        "claude-fable-5": Price(10, 50, 1, 12.5),
        "claude-mythos-5": Price(10, 50, 1, 12.5),
        "claude-opus-5-5": Price(4, 20, 0.2, 5),
        "claude-opus-5": Price(5, 25, 0.5, 6.25),
        "claude-opus-4-8": Price(5, 25, 0.5, 6.25),
        "claude-opus-4-7": Price(5, 25, 0.5, 6.25),
        "claude-opus-4-6": Price(5, 25, 0.5, 6.25),
        "claude-opus-4-5": Price(5, 25, 0.5, 6.25),
        "claude-sonnet-5": Price(2, 10, 0.2, 2.5),
        "claude-sonnet-4-6": Price(3, 15, 0.3, 3.75),
        "claude-sonnet-4-5": Price(3, 15, 0.3, 3.75),
        "claude-haiku-4-5": Price(1, 5, 0.1, 1.25),
    },
}
_FREE = {"scripted", "replay"}
"""No service is asked, so nothing is charged: a known price, and zero."""
_SNAPSHOT = re.compile(r"-(\d{8}|\d{4}-\d\d-\d\d)$")


def cost_usd(model: str, usage: Usage) -> float | None:
    """What `usage` cost on `provider:model`; None where the price is not known.

    A dated snapshot costs what its model costs. A server behind `openai-chat` sets prices of its own, so its
    models have none here, whatever their names.
    """
    provider, _, name = model.partition(":")
    if provider in _FREE:
        return 0.0
    price = PRICES.get(provider, {}).get(_SNAPSHOT.sub("", name))
    if price is None:
        return None
    return (
        usage.input_tokens * price.input
        + usage.output_tokens * price.output
        + usage.cache_read_tokens * price.cache_read
        + usage.cache_write_tokens * price.cache_write
    ) / 1_000_000
