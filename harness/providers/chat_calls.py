"""Calls as chat servers send them: in fragments, with odd ids or none, and sometimes as plain text."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from harness.messages import Call, JsonObject
from harness.provider import Request
from harness.providers.calls import parse_call, safe_id


@dataclass
class _Fragments:
    index: int | None
    call_id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)


class StreamedCalls:
    """Puts fragments together. A fragment belongs to the call of its index; without one, to the latest."""

    def __init__(self) -> None:
        self._calls: list[_Fragments] = []

    def add(self, delta: JsonObject) -> None:
        function = delta.get("function") or {}
        call = self._find(delta.get("index"), delta.get("id") or "", function.get("name") or "")
        call.call_id = call.call_id or delta.get("id") or ""
        call.name = call.name or function.get("name") or ""
        arguments = function.get("arguments")
        if isinstance(arguments, dict):  # Whole, and not encoded a second time.
            arguments = json.dumps(arguments)
        call.arguments.append(arguments or "")

    def _find(self, index: int | None, call_id: str, name: str) -> _Fragments:
        for call in reversed(self._calls):
            # An id of its own makes a new call, whatever the index: some servers number every call 0.
            if call_id and call.call_id and call_id != call.call_id:
                continue
            if index is not None and call.index == index:
                return call
            if index is None and (call_id == call.call_id != "" or not (call_id or name)):
                return call
        self._calls.append(_Fragments(index))
        return self._calls[-1]

    def finish(self, request: Request, notes: list[str]) -> list[Call]:
        """The calls, each with an id that is safe and its own in the whole conversation."""
        ids = _Ids(request)
        calls = []
        for call in self._calls:
            call_id = ids.take(call.call_id)
            if call_id != call.call_id:
                notes.append(f"the call id {call.call_id!r} was replaced by {call_id!r}")
            calls.append(parse_call(call_id, call.name, "".join(call.arguments)))
        return calls


def calls_in_text(text: str, request: Request, notes: list[str]) -> tuple[str, list[Call]]:
    """Calls that a local model's server left in the text, between `<tool_call>` tags, and the text without
    them.

    Only at the text's end, and only of tools that were offered: a model that quotes such a tag from a file
    does not mean it. What cannot be read stays text.
    """
    start = text.find("<tool_call>")
    if start < 0:
        return text, []
    offered = {tool.name for tool in request.tools}
    ids = _Ids(request)
    calls = []
    for piece in text[start:].split("<tool_call>")[1:]:
        body, closed, after = piece.rpartition("</tool_call>")
        value = _object(body if closed else piece)
        name = value.get("name")
        if (closed and after.strip()) or name not in offered:
            why = "something follows it" if name in offered else "it is no call of a tool that was offered"
            notes.append(f"text that looks like a tool call was left as text: {why}")
            return text, []
        arguments = value.get("arguments", value.get("parameters"))
        calls.append(parse_call(ids.take(""), name, arguments if isinstance(arguments, dict | str) else None))
    if calls:
        notes.append(f"{len(calls)} tool call(s) written as text were read as calls")
        text = text[:start].rstrip()
    return text, calls


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


class _Ids:
    """Hands out call ids no other call of the conversation has; the same request gives the same ids."""

    def __init__(self, request: Request) -> None:
        self._taken = {call.id for message in request.messages for call in message.calls}
        self._turn = sum(message.role == "assistant" for message in request.messages)
        self._next = 0

    def take(self, wanted: str) -> str:
        call_id = safe_id(wanted) if wanted else ""
        while not call_id or call_id in self._taken:
            call_id = f"call_{self._turn}_{self._next}"
            self._next += 1
        self._taken.add(call_id)
        return call_id
