"""OpenAI's Responses API, without state on the other side: what the model needs back is sent back."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any

from harness.messages import Call, JsonObject, Message, Part, Result, Text, Thinking, Usage
from harness.provider import Delta, Reply, Request, Stop, TextDelta, ThinkingDelta
from harness.providers.calls import (
    clean,
    counted,
    cut_short,
    parse_call,
    safe_id,
    sent_arguments,
    sent_result,
)
from harness.providers.faults import answered
from harness.providers.hosted import Hosted
from harness.providers.sse import Event
from harness.providers.wire import Reader, Response, Service

_THOUGHTLESS = ("gpt-3.5", "gpt-4", "chatgpt-4o")
"""Families that do not reason and refuse a request to include their reasoning. Closed: new ones do."""


class OpenAIProvider(Hosted):
    """OpenAI's models. `extra` is e.g. {"reasoning": {"summary": "auto"}}."""

    name = "openai"
    who = "OpenAI"
    home = "https://api.openai.com/v1"

    def _open(self) -> tuple[Any, Any]:
        import openai

        return openai, openai.AsyncOpenAI(**self._settings(openai))

    def _ask(self, client: Any, request: Request) -> AbstractAsyncContextManager[Response]:
        body = {"model": self.model, **request_body(request, self._maker), **self._extra, "stream": True}
        if not self.model.startswith(_THOUGHTLESS):
            body["include"] = ["reasoning.encrypted_content"]
        opening: AbstractAsyncContextManager[Response]
        opening = client.responses.with_streaming_response.create(**body)
        return opening

    def _reader(self, service: Service, request: Request) -> Reader:
        return _Reader(service, self._maker)


def request_body(request: Request, maker: str) -> JsonObject:
    """The request's JSON, without model; the same messages always give the same bytes."""
    body: JsonObject = {
        "input": [item for message in request.messages for item in _items(message, maker)],
        "max_output_tokens": request.max_output_tokens,
        "store": False,
    }
    if request.system:
        body["instructions"] = request.system
    if request.tools:
        body["tools"] = [
            {
                "type": "function",
                "name": tool.name,
                "description": tool.description,
                "parameters": tool.parameters,
                "strict": False,
            }
            for tool in request.tools
        ]
    return body


def _items(message: Message, maker: str) -> list[JsonObject]:
    kind = "output_text" if message.role == "assistant" else "input_text"
    items: list[JsonObject] = []
    for part in message.parts:
        match part:
            case Text(text=text) if text:
                items.append({"role": message.role, "content": [{"type": kind, "text": text}]})
            # Nothing is stored over there: an item without its content is unknown.
            case Thinking(block={"encrypted_content": str()}) if part.provider == maker:
                items.append(part.block)
            case Call():
                arguments = json.dumps(sent_arguments(part))
                call = {"call_id": safe_id(part.id), "name": part.name, "arguments": arguments}
                items.append({"type": "function_call", **call})
            case Result():
                result = {"call_id": safe_id(part.call_id), "output": sent_result(part)}
                items.append({"type": "function_call_output", **result})
            case _:
                pass
    # The API refuses reasoning that nothing follows, as an unfinished reply leaves it.
    while items and items[-1].get("type") == "reasoning":
        items.pop()
    return items


class _Reader:
    """Collects output items as they are finished; reasoning items are kept whole."""

    def __init__(self, service: Service, maker: str) -> None:
        self._service, self._maker = service, maker
        self._items: dict[int, JsonObject] = {}
        self._final: JsonObject = {}
        self.complete = self.done = False

    def feed(self, event: Event) -> Iterable[Delta]:
        data = event.data
        match event.name:
            case "response.output_text.delta" | "response.refusal.delta":
                yield TextDelta(clean(data["delta"]))
            case "response.reasoning_summary_text.delta" | "response.reasoning_text.delta":
                yield ThinkingDelta(clean(data["delta"]))
            case "response.output_item.done":
                self._items[data["output_index"]] = data["item"]
            case "response.completed" | "response.incomplete":
                self._final = data["response"]
                # Items that were never finished are only in the response as a whole.
                for index, item in enumerate(self._final.get("output") or ()):
                    self._items.setdefault(index, item)
                self.complete = self.done = True
            case "response.failed":
                error = data["response"].get("error")
                raise answered(self._service.name, None, {"error": error}, {}, self._service.hide)
            case "error":
                raise answered(self._service.name, None, data, {}, self._service.hide)
            case _:
                return

    def reply(self) -> Reply:
        parts: list[Part] = []
        notes: list[str] = []
        refused = False
        for _, item in sorted(self._items.items()):
            match item.get("type"):
                case "reasoning":
                    parts.append(Thinking(text=clean(_summary(item)), provider=self._maker, block=item))
                case "message":
                    for content in item["content"]:
                        refused |= content["type"] == "refusal"
                        parts.append(Text(text=clean(content.get("text") or content.get("refusal") or "")))
                case "function_call":
                    parts.append(parse_call(item["call_id"], item["name"], item["arguments"]))
                case kind:
                    notes.append(f"an item of the unknown type {kind!r} was left out")
        calls = any(isinstance(part, Call) for part in parts)
        stop: Stop = "refusal" if refused else "calls" if calls else "end"
        if self._final.get("status") == "incomplete":
            reason = (self._final.get("incomplete_details") or {}).get("reason")
            stop = "refusal" if reason == "content_filter" else "length"
        message = Message(role="assistant", parts=cut_short(parts, stop))
        return Reply(message, usage_of(self._final.get("usage") or {}), stop, tuple(notes))


def _summary(item: JsonObject) -> str:
    return "\n\n".join(part["text"] for part in (item.get("summary") or item.get("content") or ()))


def usage_of(usage: JsonObject, sent: str = "input", said: str = "output") -> Usage:
    """What was counted, under the names that the one API and the other give it; zeros where it was not."""
    details = usage.get(f"{sent}_tokens_details") or {}
    read, written = counted(details.get("cached_tokens")), counted(details.get("cache_write_tokens"))
    return Usage(
        input_tokens=max(0, counted(usage.get(f"{sent}_tokens")) - read - written),
        output_tokens=counted(usage.get(f"{said}_tokens")),
        cache_read_tokens=read,
        cache_write_tokens=written,
    )
