"""Reading a model's calls (tool use) and text: what every provider has to survive, in one place."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from harness.messages import Call, JsonObject


def clean(text: str) -> str:
    """Text as Unicode allows it: split surrogate pairs joined, lone halves replaced by U+FFFD.

    A server may escape an emoji as two halves in two deltas; each half alone is not a character.
    """
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def parse_call(call_id: str, name: str, arguments: str | JsonObject | None) -> Call:
    """A call from the arguments as they came; what is not a JSON object is kept as `malformed`, for the model
    to see.

    Nothing at all means no arguments: models send it for tools that need none.
    """
    if arguments is None or arguments == "":
        return Call(id=call_id, name=clean(name))
    if isinstance(arguments, dict):
        arguments = json.dumps(arguments)
    try:
        value = clean_json(json.loads(arguments, parse_constant=_refuse_constant))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        return Call(id=call_id, name=clean(name), malformed=clean(arguments))
    return Call(id=call_id, name=clean(name), arguments=value)


def clean_json(value: Any) -> Any:
    """The same JSON value with every string, key or value, cleaned."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [clean_json(item) for item in value]
    if isinstance(value, dict):
        return {clean(key): clean_json(item) for key, item in value.items()}
    return value


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
