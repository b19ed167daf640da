"""What the model does: a call announced, what it is about to write, and what came of it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from harness.messages import VERBATIM, Call, JsonObject, Result, Value


class CallIntent(Value):
    """Written before the effect. Past this line the call may have happened."""

    kind: Literal["call_intent"] = "call_intent"
    call: Call
    exec_id: str | None = None
    """The id under which the sandbox executes it, at most once."""
    decision: Literal["allow", "ask", "deny"]
    rule: str = ""


class FileAhead(Value):
    """What a call is about to make of a file: written once that is known, and before it is done.

    The file itself then tells a resumed session whether it was.
    """

    kind: Literal["file_ahead"] = "file_ahead"
    call_id: Annotated[str, VERBATIM]
    path: str
    before: Annotated[str, VERBATIM] | None
    """SHA-256 of what it holds; empty where there is none, None where that cannot be read."""
    after: Annotated[str, VERBATIM]


class CallOutcome(Value):
    """Written after the effect, before the sandbox's own record of it is released."""

    kind: Literal["call_outcome"] = "call_outcome"
    result: Result
    duration_s: float
    details: JsonObject = Field(default_factory=dict)
    """Exit code, byte counts, paths read and written: facts for the screen and for recovery."""
