"""A service that grants no reply of the length asked for: told apart from a prompt that is too long."""

from __future__ import annotations

import pytest

from harness.providers.faults import fault_of

RATE = {"type": "tokens", "code": "rate_limit_exceeded"}


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (400, "max_tokens: 16000 > 8192, which is the maximum allowed number of output tokens for a model"),
        (400, "max_tokens is too large: 16000. This model supports at most 4096 completion tokens"),
        (400, "'max_tokens' or 'max_completion_tokens' is too large: 16000. Maximum context length is 8192"),
        (400, "Invalid max_tokens value, the valid range of max_tokens is [1, 8192]"),
        (400, "Invalid 'max_output_tokens': integer above maximum value. Expected a value <= 16384"),
        (400, "max_tokens must be less than or equal to 8192"),
        (400, "The maximum tokens you requested exceeds the model limit of 4096"),
        (400, "you requested 19000 tokens (3000 in the messages, 16000 in the completion)"),
        (400, "maximum context length is 9000 tokens: you asked for 3420 of text input, 16000 in the output"),
        (400, "You passed 3001 input tokens and requested 16000 output tokens, over the context length"),
    ],
)
def test_a_reply_that_would_be_too_long_is_told_from_its_words(status, sentence):
    assert (
        fault_of(status, {"error": {"message": sentence, "code": "context_length_exceeded"}})
        == "output_limit"
    )
    assert fault_of(None, {"error": {"message": sentence}}) == "output_limit"


@pytest.mark.parametrize("status", [413, 429])
@pytest.mark.parametrize(
    "sentence",
    [
        "Request too large for a model on tokens per minute (TPM): Limit 8000, Requested 19420",
        "Request too large for a model on tokens per min (TPM): Limit 30000, Requested 45000.",
    ],
)
def test_no_wait_helps_a_request_that_is_over_a_whole_rate(status, sentence):
    assert fault_of(status, {"error": {"message": sentence, **RATE}}) == "output_limit"


@pytest.mark.parametrize(
    ("status", "sentence", "fault"),
    [
        (429, "Rate limit reached on tokens per min (TPM): Limit 6000, Used 5034.", "rate_limit"),
        (400, "`max_tokens` must be greater than `thinking.budget_tokens`", "request"),
        (400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens'.", "request"),
        (400, "max_tokens: Field required", "request"),
        (400, "prompt is too long: 213462 tokens > 200000 maximum", "context_overflow"),
    ],
)
def test_other_troubles_keep_their_names(status, sentence, fault):
    assert fault_of(status, {"error": {"message": sentence, **(RATE if status == 429 else {})}}) == fault


def test_a_long_body_is_read_in_one_go():
    assert fault_of(400, {"error": {"message": "1" * 2_000_000}}) == "request"
