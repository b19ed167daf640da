"""Signals: for whoever watches now. They only repeat what an entry says whole, and are not journalled."""

from __future__ import annotations

from typing import Annotated, Literal

from harness.messages import VERBATIM, Call, Value


class TextStreamed(Value):
    kind: Literal["text"] = "text"
    text: str
    thinking: bool = False


class CallStarted(Value):
    kind: Literal["call_started"] = "call_started"
    call: Call


class CallOutput(Value):
    """The last output of a running call."""

    kind: Literal["call_output"] = "call_output"
    call_id: Annotated[str, VERBATIM]
    tail: str
    total_bytes: int


class BudgetChanged(Value):
    kind: Literal["budget"] = "budget"
    turns: int
    tokens: int
    cost_usd: float | None
    elapsed_s: float
