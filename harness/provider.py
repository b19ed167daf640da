"""The provider seam: a request goes in, deltas come out, a whole reply ends the stream."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from harness.errors import HarnessError
from harness.messages import JsonObject, Message, Usage

Stop = Literal["end", "calls", "length", "window", "refusal"]
"""`length`: it was as long as was asked for at most; `window`: the context had no room for more."""
Fault = Literal[
    "rate_limit",
    "overloaded",
    "server",
    "dropped",
    "timeout",
    "garbage",
    "auth",
    "request",
    "context_overflow",
    "output_limit",
    "drift",
]
TRANSIENT: frozenset[Fault] = frozenset(
    {"rate_limit", "overloaded", "server", "dropped", "timeout", "garbage"}
)


OUTPUT_TOKENS, LEAST_OUTPUT_TOKENS = 16_000, 2_000
"""Asked for as the longest reply; and what a service has to grant."""


class ProviderError(HarnessError):
    """The model's service gave no reply. `fault` says why; only TRANSIENT ones are worth the same try again.

    `output_limit`: it refuses a request that may be answered at such length, whatever its own size.
    """

    exit_code = 5

    def __init__(self, fault: Fault, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.fault = fault
        self.retry_after_s = retry_after_s


@dataclass(frozen=True)
class ToolSpec:
    """A syscall as it is offered to the model."""

    name: str
    description: str
    parameters: JsonObject
    """JSON Schema of the arguments, an object."""


@dataclass(frozen=True)
class Request:
    system: str
    messages: Sequence[Message]
    """Never changed."""
    tools: tuple[ToolSpec, ...]
    max_output_tokens: int = OUTPUT_TOKENS
    replies: int = 0
    """Replies of the model that came before these messages and are not among them any more."""
    purpose: Literal["turn", "summary"] = "turn"
    """What the reply is for: the conversation, or an account of its beginning."""


@dataclass(frozen=True)
class TextDelta:
    text: str


@dataclass(frozen=True)
class ThinkingDelta:
    text: str


@dataclass(frozen=True)
class Reply:
    """Always the last item of a stream."""

    message: Message
    usage: Usage
    stop: Stop
    notes: tuple[str, ...] = ()
    """What had to be repaired to read it, a sentence each: worth a Notice, never hidden."""


@dataclass(frozen=True)
class Restarted:
    """The stream broke and is asked for again: discard every delta since the request. Never made by a
    provider, only by `retry.stream_with_retry`, and only when there is something to discard.
    """


Delta = TextDelta | ThinkingDelta | Reply


class Provider(Protocol):
    """A model behind one method.

    `stream` yields deltas and exactly one Reply, last; every failure is a ProviderError. It never retries
    (the kernel does), keeps no state between requests, and must be safe to cancel at any await. A consumer
    that may stop early holds it in `contextlib.aclosing`, so that the connection closes there and then.
    """

    name: str
    """The provider's part of `provider:model`."""
    model: str

    def stream(self, request: Request) -> AsyncGenerator[Delta, None]: ...

    async def aclose(self) -> None: ...
