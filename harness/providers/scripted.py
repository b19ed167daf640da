"""The scripted model: a program of replies, one a line of a JSON-lines file, or plain Python values.

    # blank lines and lines that start with # are skipped
    {"text": "I look around.", "calls": [{"name": "bash", "arguments": {"command": "ls"}}]}
    {"text": "Done."}

    {"child": "tests", "text": "I am a session that this one started."}

Which reply comes next is read off the request alone (as many as it already holds), so a resumed or retried
session continues where it was. Usage is an estimate: a token for every four characters, whatever came before
the newest reply counted as read from a cache. A script holds no summaries: where the context has to be
compacted, the record's facts stand alone.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from itertools import accumulate
from operator import is_
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from harness.errors import UsageError
from harness.messages import Call, JsonObject, Message, Part, Text, Thinking, Usage, Value
from harness.provider import Delta, ProviderError, Reply, Request, Stop, TextDelta, ThinkingDelta
from harness.providers.calls import parse_call

_PIECES = 3
"""Deltas a text is streamed in, so that consumers meet what a real stream does."""


class ScriptedCall(Value):
    name: str
    arguments: JsonObject | str = Field(default_factory=dict)
    """A string is the raw text of the arguments, as a model would stream it: the way to script malformed
    ones.
    """


class ScriptedReply(Value):
    child: str = ""
    """The child session that says it, `tests`, or `tests/unit` of a child's child; empty for the session
    itself."""
    text: str = ""
    thinking: str = ""
    calls: tuple[ScriptedCall, ...] = ()
    stop: Stop | None = None
    """Why the model stopped, where it is not plain from the calls: `length`, `window` or `refusal`."""


class ScriptedProvider:
    """A provider that follows a script; the public double for tests, and the model of the demo."""

    name = "scripted"

    def __init__(
        self, replies: Iterable[ScriptedReply | JsonObject | str], *, source: str = "script", child: str = ""
    ) -> None:
        self.model = source
        self._lines = tuple(map(_reply, replies))
        said = [line for line in self._lines if line.child == child]
        first_calls = accumulate((len(line.calls) for line in said), initial=1)
        self._due = list(zip(said, first_calls, strict=False))
        """Each with the number of its first call. It was checked when it was read, and is composed when its
        turn comes.
        """
        self._read: tuple[Sequence[Message], int, int] = ((), 0, 0)

    @classmethod
    def from_file(cls, path: Path) -> ScriptedProvider:
        """The script in `path`; a line that is no reply is a UsageError naming file, line and reason."""
        return cls(_lines(path), source=str(path))

    def of_child(self, name: str) -> ScriptedProvider:
        """What the same script has that child say."""
        return ScriptedProvider(self._lines, source=self.model, child=name)

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        if request.purpose == "summary":
            raise ProviderError("request", f"{self.model} holds the conversation's replies and no summary")
        turn, characters = self._progress(request.messages)
        turn += request.replies
        if turn >= len(self._due):
            raise ProviderError(
                "drift",
                f"{self.model} has {len(self._due)} replies and the session asks for number {turn + 1}; "
                "end it with a reply that makes no calls, or add the missing ones",
            )
        line, first_call = self._due[turn]
        reply = _compose(line, first_call)
        for part in reply.message.parts:
            if isinstance(part, Text | Thinking):
                kind = TextDelta if isinstance(part, Text) else ThinkingDelta
                for piece in _pieces(part.text):
                    yield kind(piece)
                    await asyncio.sleep(0)
        yield Reply(reply.message, _usage(request, characters, reply.message), reply.stop)

    async def aclose(self) -> None:
        return None

    def _progress(self, messages: Sequence[Message]) -> tuple[int, int]:
        """Replies already given, and characters in all messages.

        Only what is new since the last request is counted, so that a turn costs the same at the end of a long
        session as at its start; a history that was rewritten is counted again from its beginning.
        """
        seen, replies, characters = self._read
        if len(messages) < len(seen) or not all(map(is_, messages, seen)):
            seen, replies, characters = (), 0, 0
        for message in messages[len(seen) :]:
            replies += message.role == "assistant"
            characters += _characters(message)
        self._read = (messages, replies, characters)
        return replies, characters


def _reply(reply: ScriptedReply | Mapping[str, Any] | str) -> ScriptedReply:
    if isinstance(reply, str):
        return ScriptedReply(text=reply)
    return reply if isinstance(reply, ScriptedReply) else ScriptedReply.model_validate(reply)


def _compose(line: ScriptedReply, first_call: int) -> Reply:
    parts: list[Part] = []
    if line.thinking:
        parts.append(Thinking(text=line.thinking, provider="scripted", block={"thinking": line.thinking}))
    if line.text:
        parts.append(Text(text=line.text))
    for number, call in enumerate(line.calls, first_call):
        parts.append(parse_call(f"call_{number}", call.name, call.arguments))
    stop = line.stop or ("calls" if line.calls else "end")
    return Reply(Message(role="assistant", parts=tuple(parts)), Usage(), stop)


def _lines(path: Path) -> Iterable[ScriptedReply]:
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as exc:
        raise UsageError(f"cannot read the script {path}: {exc.strerror or exc}") from exc
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith(b"#"):
            continue
        try:
            value = json.loads(line.decode())
            if not isinstance(value, dict) or not value.keys() & {"text", "calls"}:
                raise ValueError('a reply is an object with "text", "calls" or both')
            yield ScriptedReply.model_validate(value)
        except ValidationError as exc:
            first = exc.errors()[0]
            where = ".".join(str(step) for step in first["loc"])
            raise UsageError(f"{path}:{number}: {where}: {first['msg']}") from exc
        except (ValueError, RecursionError) as exc:
            raise UsageError(f"{path}:{number}: {exc}") from exc


def _pieces(text: str) -> Iterable[str]:
    size = max(1, -(-len(text) // _PIECES))
    return (text[start : start + size] for start in range(0, len(text), size))


def _characters(message: Message) -> int:
    total = 0
    for part in message.parts:
        if isinstance(part, Call):
            total += len(part.name) + len(part.malformed or str(part.arguments))
        else:
            total += len(part.text if isinstance(part, Text | Thinking) else part.content)
    return total


def _usage(request: Request, characters: int, reply: Message) -> Usage:
    new = 0
    for message in reversed(request.messages):
        if message.role == "assistant":
            break
        new += _characters(message)
    fixed = len(request.system) if new == characters else 0
    return Usage(
        input_tokens=(new + fixed) // 4,
        output_tokens=_characters(reply) // 4,
        cache_read_tokens=(characters - new + len(request.system) - fixed) // 4,
    )
