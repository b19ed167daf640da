"""What a request costs: known prices exactly, unknown ones not at all."""

from __future__ import annotations

import pytest

from harness.messages import Usage
from harness.providers.prices import PRICES, cost_usd

MILLION = Usage(
    input_tokens=1_000_000, output_tokens=1_000_000, cache_read_tokens=1_000_000, cache_write_tokens=1_000_000
)


def test_every_kind_of_token_has_its_price():
    assert cost_usd("anthropic:claude-opus-4-5", MILLION) == pytest.approx(5 + 25 + 0.5 + 6.25)
    assert cost_usd("anthropic:claude-opus-5-5", Usage(cache_read_tokens=1_000_000)) == pytest.approx(0.2)
    thousands = Usage(input_tokens=1000, output_tokens=100)
    assert cost_usd("anthropic:claude-sonnet-4-6", thousands) == pytest.approx(0.0045)


def test_a_dated_snapshot_costs_what_its_model_costs():
    for dated in ("claude-haiku-4-5-20251001", "claude-haiku-4-5-2025-10-01", "claude-haiku-4-5"):
        assert cost_usd(f"anthropic:{dated}", Usage(output_tokens=1_000_000)) == pytest.approx(5)


@pytest.mark.parametrize(
    "model",
    [
        "anthropic:claude-next",
        "anthropic:claude-sonnet-5-5",
        "anthropic:claude-haiku-5-5",
        "anthropic:claude-opus-4-5-preview",
        "openai:gpt-5.5",
        "openai:claude-opus-4-5",
        "openai-chat:gpt-4o",
        "gpt-4o",
        "claude-opus-4-5",
        "",
        "other:m",
    ],
)
def test_an_unknown_price_is_none_and_never_zero(model):
    assert cost_usd(model, Usage()) is None


def test_what_asks_no_service_costs_nothing():
    assert cost_usd("scripted:a.jsonl", MILLION) == 0.0
    assert cost_usd("replay:last", MILLION) == 0.0


def test_reading_a_cache_never_costs_more_than_not_having_one():
    for models in PRICES.values():
        for price in models.values():
            assert 0 < price.cache_read < price.input <= price.cache_write
