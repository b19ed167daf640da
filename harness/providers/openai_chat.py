"""The Chat Completions API, as OpenAI and everyone who imitates it speak it (`base_url`): hosted and local
servers.

Imitations differ, so reading is forgiving where the meaning is plain, and says so in the reply's notes where
it is not.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any
from urllib.parse import urlsplit

from harness.messages import Call, JsonObject, Message, Part, Result, Text, Thinking
from harness.provider import Delta, ProviderError, Reply, Request, Stop, TextDelta, ThinkingDelta
from harness.providers.calls import clean, cut_short, safe_id, sent_arguments, sent_result
from harness.providers.chat_calls import StreamedCalls, calls_in_text
from harness.providers.faults import answered
from harness.providers.hosted import Hosted
from harness.providers.openai import usage_of
from harness.providers.sse import Event
from harness.providers.wire import Reader, Response, Service

_STOPS: Mapping[str, Stop] = {
    "length": "length",
    "max_tokens": "length",
    "model_length": "window",
    "content_filter": "refusal",
    "refusal": "refusal",
}
_REASONING = ("reasoning_content", "reasoning")
"""Where servers put thoughts; they go back under the same name."""


class OpenAIChatProvider(Hosted):
    """Any Chat Completions server; OpenAI's own without a base_url."""

    name = "openai-chat"
    home = "https://api.openai.com/v1"

    @property
    def who(self) -> str:
        return urlsplit(self._base_url).netloc.rpartition("@")[2] if self._base_url else "OpenAI"

    def _open(self) -> tuple[Any, Any]:
        import openai

        return openai, openai.AsyncOpenAI(**self._settings(openai))

    def _ask(self, client: Any, request: Request) -> AbstractAsyncContextManager[Response]:
        # OpenAI's newer models refuse the name every imitation knows.
        limit = "max_tokens" if self._base_url else "max_completion_tokens"
        body = {
            "model": self.model,
            **request_body(request, self._maker),
            limit: request.max_output_tokens,
            **self._extra,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        opening: AbstractAsyncContextManager[Response]
        opening = client.chat.completions.with_streaming_response.create(**body)
        return opening

    def _reader(self, service: Service, request: Request) -> Reader:
        return _Reader(service, request, self._maker)


def request_body(request: Request, maker: str) -> JsonObject:
    """The request's JSON, without model and limits; the same messages always give the same bytes."""
    messages = [sent for message in request.messages for sent in _sent(message, maker)]
    if request.system:
        messages.insert(0, {"role": "system", "content": request.system})
    body: JsonObject = {"messages": messages}
    if request.tools:  # Some servers refuse an empty list.
        body["tools"] = [
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": tool.parameters,
                },
            }
            for tool in request.tools
        ]
    return body


def _sent(message: Message, maker: str) -> list[JsonObject]:
    """One of our messages as theirs: results are a message each, and an empty reply is none."""
    results = [part for part in message.parts if isinstance(part, Result)]
    sent: list[JsonObject] = [
        {"role": "tool", "tool_call_id": safe_id(part.call_id), "content": sent_result(part)}
        for part in results
    ]
    text, calls = message.text, [_call(call) for call in message.calls]
    if text or calls:
        # An empty text, not null: templates of local models print a null as the word None.
        said: JsonObject = {"role": message.role, "content": text}
        for part in message.parts:
            if isinstance(part, Thinking) and part.provider == maker:
                said.update(part.block)
        if calls:
            said["tool_calls"] = calls
        sent.append(said)
    return sent


def _call(call: Call) -> JsonObject:
    function = {"name": call.name, "arguments": json.dumps(sent_arguments(call))}
    return {"id": safe_id(call.id), "type": "function", "function": function}


class _Reader:
    """Collects the first choice's deltas."""

    def __init__(self, service: Service, request: Request, maker: str) -> None:
        self._service, self._maker = service, maker
        self._request = request
        self._text: list[str] = []
        self._thoughts: dict[str, list[str]] = {}
        self._calls = StreamedCalls()
        self._finish: str | None = None
        self._refused = False
        self._usage: JsonObject = {}
        self._spoke = self.complete = self.done = False

    def feed(self, event: Event) -> Iterable[Delta]:
        if event.name == "[DONE]":
            # Some servers never say why they finished; what they said is whole all the same.
            self.complete, self.done = self.complete or self._spoke, True
            if not self.complete:
                raise ProviderError("garbage", f"{self._service.name} finished without a reply")
            return
        data = event.data
        if error := data.get("error"):
            raise answered(self._service.name, None, {"error": error}, {}, self._service.hide)
        self._usage = data.get("usage") or self._usage
        for choice in (data.get("choices") or ())[:1]:
            yield from self._read(choice.get("delta") or choice.get("message") or {})
            if finish := choice.get("finish_reason"):
                if finish == "error":
                    raise ProviderError("server", f"{self._service.name} failed while it answered")
                self._finish, self.complete = finish, True

    def _read(self, delta: JsonObject) -> Iterable[Delta]:
        self._spoke = True
        for field in _REASONING:
            if thought := delta.get(field):
                self._thoughts.setdefault(field, []).append(thought)
                yield ThinkingDelta(clean(thought))
                break  # Some send the same thought under both names.
        for field in ("content", "refusal"):
            if said := delta.get(field):
                self._refused |= field == "refusal"
                self._text.append(said)
                yield TextDelta(clean(said))
        for call in delta.get("tool_calls") or ():
            self._calls.add(call)

    def reply(self) -> Reply:
        notes: list[str] = []
        parts: list[Part] = [
            Thinking(text=clean("".join(thought)), provider=self._maker, block={field: "".join(thought)})
            for field, thought in self._thoughts.items()
        ]
        text = clean("".join(self._text))
        calls = self._calls.finish(self._request, notes)
        if not calls:
            text, calls = calls_in_text(text, self._request, notes)
        if text:
            parts.append(Text(text=text))
        parts.extend(calls)
        stop = _STOPS.get(self._finish or "", "calls" if calls else "end")
        message = Message(role="assistant", parts=cut_short(parts, stop))
        return Reply(
            message,
            usage_of(self._usage, "prompt", "completion"),
            "refusal" if self._refused else stop,
            tuple(notes),
        )
