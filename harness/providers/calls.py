"""Reading a model's calls (tool use) and text: what every provider has to survive, in one place."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, NoReturn

from harness.messages import Call, JsonObject, Part, Result
from harness.provider import Stop

MOST_TOKENS = 10**12
"""Of one request. A service that says more has lost count, and no limit on tokens is higher."""


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


def cut_short(parts: list[Part], stop: Stop) -> tuple[Part, ...]:
    """The parts of a reply that ended at `stop`; a call that was cut before its arguments began is malformed.

    Otherwise it would look like a call that needs none, and run.
    """
    last = parts[-1] if parts else None
    if (
        stop in ("length", "window")
        and isinstance(last, Call)
        and not last.arguments
        and last.malformed is None
    ):
        parts = [*parts[:-1], last.model_copy(update={"malformed": ""})]
    return tuple(parts)


def sent_arguments(call: Call) -> JsonObject:
    """The arguments as they go back to a model: always an object, because services refuse what is none."""
    return call.arguments if call.malformed is None else {"malformed_json": call.malformed}


def sent_result(result: Result) -> str:
    """A result's text for services that have no field for failure."""
    return result.content if result.error is None else f"[{result.error}] {result.content}"


def counted(value: object) -> int:
    """Tokens, as a service says; what is no count is none. One below zero would add to what may be spent."""
    return min(value, MOST_TOKENS) if type(value) is int and value > 0 else 0


def safe_id(call_id: str) -> str:
    """A call id every service accepts (letters, digits, `_`, `-`, at most 64), the same for the same id."""
    if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", call_id):
        return call_id
    digest = hashlib.sha256(call_id.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{re.sub(r'[^A-Za-z0-9_-]', '_', call_id)[:48]}_{digest}"


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
