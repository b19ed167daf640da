"""Messages between the kernel and a model, in one shape for every provider."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

JsonObject = dict[str, Any]


class _Verbatim:
    """Marks a field that goes back to a provider as it came: the journal keeps it unredacted."""


VERBATIM = _Verbatim()


class Value(BaseModel):
    """Base of everything that goes into the journal: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Text(Value):
    type: Literal["text"] = "text"
    text: str


class Thinking(Value):
    """Reasoning a provider wants back unchanged."""

    type: Literal["thinking"] = "thinking"
    text: str = ""
    provider: str
    """Who made it, `provider:model`; only the same model is sent it again."""
    block: Annotated[JsonObject, VERBATIM]
    """The provider's own block (signature, encrypted content), returned byte for byte."""


class Call(Value):
    """The model asks for a syscall."""

    type: Literal["call"] = "call"
    id: Annotated[str, VERBATIM]
    name: str
    arguments: JsonObject = {}
    malformed: str | None = None
    """The arguments' raw text, when it was not a JSON object."""


class Result(Value):
    """What came of a call."""

    type: Literal["result"] = "result"
    call_id: Annotated[str, VERBATIM]
    name: str
    content: str
    error: str | None = None
    """A stable code, e.g. `bad_arguments`, `denied`, `timed_out`; None for success."""


Part = Annotated[Text | Thinking | Call | Result, Field(discriminator="type")]


class Message(Value):
    role: Literal["user", "assistant", "tool"]
    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.parts if part.type == "text")

    @property
    def calls(self) -> tuple[Call, ...]:
        return tuple([part for part in self.parts if part.type == "call"])


class Usage(Value):
    """Tokens of one request."""

    input_tokens: int = 0
    """Read in full price; cache reads and writes are counted beside it, not in it."""
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0

    @property
    def total(self) -> int:
        return self.input_tokens + self.output_tokens + self.cache_read_tokens + self.cache_write_tokens

    def plus(self, other: Usage) -> Usage:
        return Usage.sum((self, other))

    @classmethod
    def sum(cls, usages: Sequence[Usage]) -> Usage:
        return cls(
            input_tokens=sum(one.input_tokens for one in usages),
            output_tokens=sum(one.output_tokens for one in usages),
            cache_read_tokens=sum(one.cache_read_tokens for one in usages),
            cache_write_tokens=sum(one.cache_write_tokens for one in usages),
        )


def user(text: str) -> Message:
    return Message(role="user", parts=(Text(text=text),))
