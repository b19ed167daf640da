"""What is said: messages, prompts that wait for the model to read them, and the end of a turn."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from harness.messages import VERBATIM, Message, Usage, Value

PROMPT_NAME = "^q[1-9][0-9]{0,8}$"


class MessageAdded(Value):
    """A user's or the model's message; for the model's, what it cost."""

    kind: Literal["message"] = "message"
    message: Message
    usage: Usage | None = None
    stop: str | None = None
    cost_usd: float | None = None
    prompt: Annotated[str, VERBATIM, Field(pattern=PROMPT_NAME)] | None = None
    """The prompt that waited and is this message; from here on it waits no longer."""


class PromptQueued(Value):
    """Something the user said that the model has not read yet. Once this is written it will be, once."""

    kind: Literal["prompt_queued"] = "prompt_queued"
    prompt: Annotated[str, VERBATIM, Field(pattern=PROMPT_NAME)]
    """Its name in this session, e.g. `q1`."""
    when: Literal["request", "turn"]
    """Before the model's next request (steering), or as the beginning of a turn (follow-up)."""
    text: str
    by: str
    """`terminal`, `another terminal`, …"""


class PromptDropped(Value):
    """The user took a prompt back before the model read it."""

    kind: Literal["prompt_dropped"] = "prompt_dropped"
    prompt: Annotated[str, VERBATIM]
    by: str


class TurnDone(Value):
    """A turn is over, and the session waits for what the user says next."""

    kind: Literal["turn_ended"] = "turn_ended"
    status: Literal["done", "failed", "interrupted"]
    reason: str


class Notice(Value):
    """Something worth knowing that is nobody's message: a retry, a torn tail cut, a loop detected."""

    kind: Literal["notice"] = "notice"
    level: Literal["info", "warning", "error"]
    code: str
    text: str
