"""Anthropic's Messages API."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from harness.messages import Call, JsonObject, Message, Part, Result, Text, Thinking, Usage
from harness.provider import Delta, Reply, Request, Stop, TextDelta, ThinkingDelta
from harness.providers.calls import clean, counted, cut_short, parse_call, safe_id, sent_arguments
from harness.providers.faults import answered
from harness.providers.hosted import Hosted
from harness.providers.sse import Event
from harness.providers.wire import Reader, Response, Service

_CACHED: JsonObject = {"type": "ephemeral"}
_STOPS: Mapping[str, Stop] = {
    "max_tokens": "length",
    "model_context_window_exceeded": "window",
    "refusal": "refusal",
}


class AnthropicProvider(Hosted):
    """Claude models. `extra` is e.g. {"thinking": {"type": "adaptive"}}."""

    name = "anthropic"
    who = "Anthropic"
    home = "https://api.anthropic.com"

    def _open(self) -> tuple[Any, Any]:
        import anthropic

        return anthropic, anthropic.AsyncAnthropic(**self._settings(anthropic))

    def _ask(self, client: Any, request: Request) -> AbstractAsyncContextManager[Response]:
        body = {"model": self.model, **request_body(request, self._maker), **self._extra, "stream": True}
        opening: AbstractAsyncContextManager[Response]
        opening = client.messages.with_streaming_response.create(**body)
        return opening

    def _reader(self, service: Service, request: Request) -> Reader:
        return _Reader(service, self._maker)


def request_body(request: Request, maker: str) -> JsonObject:
    """The request's JSON, without model. The same messages always give the same bytes, markers for the cache
    aside: those stand on what every request shares and on the last two user turns (the older one is where the
    previous request wrote its cache). A summary's has none: nothing follows that could read what it writes.
    """
    marked: JsonObject = {"cache_control": _CACHED} if request.purpose == "turn" else {}
    body: JsonObject = {
        "max_tokens": request.max_output_tokens,
        "messages": _messages(request.messages, maker),
    }
    if request.system:
        body["system"] = [{"type": "text", "text": request.system, **marked}]
    if request.tools:
        tools: list[JsonObject] = [
            {"name": tool.name, "description": tool.description, "input_schema": tool.parameters}
            for tool in request.tools
        ]
        body["tools"] = [*tools[:-1], {**tools[-1], **marked}]
    turns = [message for message in body["messages"] if message["role"] == "user"]
    for message in turns[-2:]:
        message["content"][-1].update(marked)
    return body


def _messages(messages: Iterable[Message], maker: str) -> list[JsonObject]:
    """The conversation; neighbours of one role become one message, results first as the API demands."""
    merged: list[JsonObject] = []
    for message in messages:
        role = "assistant" if message.role == "assistant" else "user"
        content = [block for part in message.parts if (block := _block(part, maker)) is not None]
        if not content:
            continue
        if merged and merged[-1]["role"] == role:
            merged[-1]["content"].extend(content)
        else:
            merged.append({"role": role, "content": content})
    return merged


def _block(part: Part, maker: str) -> JsonObject | None:
    """A part as the API wants it; None for what it refuses (blank text) or never said (another's)."""
    match part:
        case Text():
            return {"type": "text", "text": part.text} if part.text.strip() else None
        case Thinking():
            return dict(part.block) if part.provider == maker else None
        case Call():
            return {
                "type": "tool_use",
                "id": safe_id(part.id),
                "name": part.name,
                "input": sent_arguments(part),
            }
        case Result():
            failed = {} if part.error is None else {"is_error": True}
            return {
                "type": "tool_result",
                "tool_use_id": safe_id(part.call_id),
                "content": part.content,
                **failed,
            }


class _Reader:
    """Collects content blocks; thinking blocks keep every field they came with."""

    def __init__(self, service: Service, maker: str) -> None:
        self._service, self._maker = service, maker
        self._blocks: dict[int, JsonObject] = {}
        self._arguments: dict[int, list[str]] = {}
        self._usage: dict[str, int] = {}
        self._stop: str | None = None
        self._stop_details: Any = None
        self.complete = self.done = False

    def feed(self, event: Event) -> Iterable[Delta]:
        data = event.data
        match event.name:
            case "message_start":
                self._count(_object(data, "message").get("usage"))
            case "content_block_start":
                self._blocks[data["index"]] = block = dict(_object(data, "content_block"))
                if block.get("type") == "text" and block.get("text"):
                    yield TextDelta(clean(block["text"]))
            case "content_block_delta":
                yield from self._extend(data["index"], _object(data, "delta"))
            case "message_delta":
                delta = _object(data, "delta")
                self._stop = delta.get("stop_reason") or self._stop
                self._stop_details = delta.get("stop_details")
                self._count(data.get("usage"))
            case "message_stop":
                self.complete = self.done = True
            case "error":
                raise answered(self._service.name, None, data, {}, self._service.hide)
            case _:
                return

    def _extend(self, index: int, delta: JsonObject) -> Iterable[Delta]:
        block = self._blocks[index]
        match delta.get("type"):
            case "text_delta":
                block["text"] = block.get("text", "") + delta["text"]
                yield TextDelta(clean(delta["text"]))
            case "thinking_delta":
                block["thinking"] = block.get("thinking", "") + delta["thinking"]
                yield ThinkingDelta(clean(delta["thinking"]))
            case "signature_delta":
                block["signature"] = block.get("signature", "") + delta["signature"]
            case "input_json_delta":
                self._arguments.setdefault(index, []).append(delta["partial_json"])
            case _:
                return

    def _count(self, usage: Any) -> None:
        """Later counts replace earlier ones: they are cumulative."""
        if isinstance(usage, dict):
            self._usage.update(
                {key: counted(value) for key, value in usage.items() if isinstance(value, int)}
            )

    def reply(self) -> Reply:
        parts: list[Part] = []
        notes: list[str] = []
        for index, block in sorted(self._blocks.items()):
            match block.get("type"):
                case "text":
                    parts.append(Text(text=clean(block.get("text", ""))))
                case "thinking" | "redacted_thinking":
                    parts.append(
                        Thinking(text=clean(block.get("thinking", "")), provider=self._maker, block=block)
                    )
                case "tool_use":
                    arguments = "".join(self._arguments.get(index, ())) or block.get("input")
                    parts.append(parse_call(block["id"], block["name"], arguments))
                case kind:
                    notes.append(f"a block of the unknown type {kind!r} was left out")
        calls = any(isinstance(part, Call) for part in parts)
        stop = _STOPS.get(self._stop or "", "calls" if calls else "end")
        if stop == "refusal" and isinstance(self._stop_details, dict):
            notes.append(
                f"refused: {self._stop_details.get('explanation') or self._stop_details.get('category')}"
            )
        count = self._usage.get
        usage = Usage(
            input_tokens=count("input_tokens", 0),
            output_tokens=count("output_tokens", 0),
            cache_read_tokens=count("cache_read_input_tokens", 0),
            cache_write_tokens=count("cache_creation_input_tokens", 0),
        )
        return Reply(Message(role="assistant", parts=cut_short(parts, stop)), usage, stop, tuple(notes))


def _object(data: JsonObject, key: str) -> JsonObject:
    value = data[key]
    if not isinstance(value, dict):
        raise TypeError(f"{key} is no object")
    return value
