"""What the model is sent no longer: pages put out, a beginning compacted, a window found smaller."""

from __future__ import annotations

from typing import Annotated, Literal

from harness.messages import VERBATIM, JsonObject, Usage, Value


class EvictedPage(Value):
    """A result that is kept outside the context."""

    page: Annotated[str, VERBATIM]
    """`p7`: its place among all parts of the session's messages."""
    tokens: int
    """Estimated, before the provider's own count corrects it."""
    stub: str
    """What the model is sent in its place."""


class PagesEvicted(Value):
    """Written before the shorter context is used."""

    kind: Literal["pages_evicted"] = "pages_evicted"
    pages: tuple[EvictedPage, ...]
    tokens_before: int
    """Expected of the next request, by what the provider counted so far."""
    tokens_after: int


class Compacted(Value):
    """Written before it is used: one message stands in place of the conversation's beginning."""

    kind: Literal["compacted"] = "compacted"
    through: int
    """Messages of the session that are replaced, from the first."""
    pages: int
    """Their pages, `p1` to this one; all of them can be recalled."""
    cause: Literal["full", "overflow"]
    """By our own count, or since the provider refused the request as too long."""
    summary: JsonObject | None
    """The model's, as validated; None where none could be had."""
    fallback: str = ""
    """Why there is no new summary."""
    head: str
    """The message, as the model is sent it."""
    tokens_before: int
    """Expected of the next request, by what the provider counted so far."""
    tokens_after: int
    replies: int
    """The model gave for it; they are no part of the conversation."""
    usage: Usage
    """What they cost together."""
    cost_usd: float | None


class WindowLearned(Value):
    """The model refused a request of this size as too long; while it is this model, less is sent."""

    kind: Literal["window_learned"] = "window_learned"
    tokens: int
