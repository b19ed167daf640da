"""What went wrong (fault classification): every failure of a model's service as one ProviderError, in one
line.

Services name the same trouble differently: by status, by a code or type in the body, or by a sentence alone.
Sentences that speak of the reply's length are looked at first, since they come under codes that mean other
things; then codes, sentences that mean an overflowing context, and the status.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import Any

from harness.provider import Fault, ProviderError

_MESSAGE_CHARS = 400

_CODES: Mapping[str, Fault] = {
    "overloaded_error": "overloaded",
    "slow_down": "overloaded",
    "rate_limit_error": "rate_limit",
    "rate_limit_exceeded": "rate_limit",
    "api_error": "server",
    "server_error": "server",
    "timeout_error": "timeout",
    "authentication_error": "auth",
    "invalid_api_key": "auth",
    "permission_error": "auth",
    "context_length_exceeded": "context_overflow",
    "exceed_context_size_error": "context_overflow",
    "request_too_large": "context_overflow",
    # Answered with 429, and yet no wait will help.
    "insufficient_quota": "request",
    "billing_error": "request",
    "invalid_prompt": "request",
}

_OUTPUT = re.compile(
    r"max_(completion_|output_|new_)?tokens.{0,40}"
    r"(too large|[<>]|exceeds?|less than|at most|valid range|above maximum)"
    r"|maximum tokens you requested exceed|requested [\d,]+ output tokens"
    r"|\d (tokens )?in the (completion|output)\b"
    # Rates that count the longest reply beforehand: a request over all of one is refused whenever it comes.
    r"|request too large.{0,300}(tokens per min|\bTPM\b)",
    re.IGNORECASE | re.DOTALL,
)
_OVERFLOW = re.compile(
    r"prompt (is )?too long|input is too long|maximum (context|model|prompt) length|reduce the length"
    r"|exceeds? .{0,40}context|context (length|window|size).{0,40}exceed|context.{0,12}overflow"
    r"|(than|only).{0,20} context (length|size)|input token count.{0,40}exceeds|max_new_tokens.{0,12}must be"
    r"|loaded with context length|exceed.{0,12} model token limit|range of input length"
    r"|(prompt|input) (tokens?|length)( count)?( of)?( \d+)? exceeds?|tokens in request more than"
    r"|tokens in the prompt cannot exceed|prompt exceeds max length|(string|array) too long",
    re.IGNORECASE | re.DOTALL,
)


def fault_of(status: int | None, body: Any) -> Fault:
    """Why a request failed, from the answer's status (None inside a stream) and its decoded body."""
    sentence = _sentence(body)
    if _OUTPUT.search(sentence):
        return "output_limit"
    error = body.get("error", body) if isinstance(body, Mapping) else body
    if isinstance(error, Mapping):
        for key in ("code", "type"):
            name = error.get(key)
            if isinstance(name, str) and name in _CODES:
                return _CODES[name]
            if isinstance(name, int) and status is None:
                status = name
    if status != 429 and _OVERFLOW.search(sentence):
        return "context_overflow"
    return _of_status(status)


def _of_status(status: int | None) -> Fault:
    match status:
        case 401 | 403:
            return "auth"
        case 408:
            return "timeout"
        case 413:
            return "context_overflow"
        case 429:
            return "rate_limit"
        case 529:
            return "overloaded"
        case None | 409:
            return "server"
        case _:
            return "server" if status >= 500 else "request"


def answered(
    who: str, status: int | None, body: Any, headers: Mapping[str, str], hide: Iterable[str]
) -> ProviderError:
    """The error for an answer that is no reply."""
    fault = fault_of(status, body)
    text = f"{who} answered {status or 'with an error'}: {_sentence(body) or 'no explanation'}"
    if status is not None and 300 <= status < 400:
        text = f"{who} answered {status}: redirects are not followed, give the final address as the base URL"
    return ProviderError(fault, one_line(text, hide), retry_after_s(headers))


def one_line(text: str, hide: Iterable[str] = ()) -> str:
    """Text for a person: one line, bounded, with the secrets in `hide` blotted out."""
    for secret in hide:
        text = text.replace(secret, "‹key›")
    text = " ".join(text.split())
    return text if len(text) <= _MESSAGE_CHARS else text[: _MESSAGE_CHARS - 1] + "…"


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds the service asks to wait: `retry-after-ms`, or `retry-after` in seconds or as a date."""
    for name, unit in (("retry-after-ms", 1000), ("retry-after", 1)):
        value = headers.get(name, "")
        try:
            seconds = float(value) / unit
        except ValueError:
            continue
        if isfinite(seconds):
            return max(0.0, seconds)
    try:
        return max(0.0, parsedate_to_datetime(headers["retry-after"]).timestamp() - time.time())
    except (KeyError, ValueError, OverflowError):
        return None


def _sentence(body: Any) -> str:
    """The human part of an error body, wherever the service put it."""
    if isinstance(body, str):
        return re.sub(r"<(style|script).*?</\1>|<[^>]*>", " ", body, flags=re.DOTALL | re.IGNORECASE)
    if isinstance(body, Mapping):
        for key in ("message", "error", "detail"):
            if found := _sentence(body.get(key)):
                return found
    if isinstance(body, list) and body:
        return _sentence(body[0])
    return ""
