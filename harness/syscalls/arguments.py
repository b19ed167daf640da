"""Arguments from the model are user memory: they are fetched and checked here, and typed from here on."""

from __future__ import annotations

import difflib
import itertools
import json
import re
from collections.abc import Mapping

from pydantic import ValidationError

from harness.messages import Call, Message, Part
from harness.syscalls.base import Arguments, Refused, Syscall

MAX_BYTES = 1 << 20
"""Arguments of one call, as JSON."""
MAX_MESSAGE_BYTES = 4 << 20
"""Arguments of all calls of a message: it becomes one line of the journal, whose length is bounded."""
_KEPT = 400
"""Characters kept of arguments that are over it."""
_OVER = re.compile(r"… \(([\d,]+) bytes in all\)\Z")


def bounded(message: Message) -> Message:
    """The message as it is, or with arguments over the limits cut down to their beginning.

    What is kept must fit: it goes into the journal, and to the model with every later request.
    """
    parts: list[Part] = []
    left = MAX_MESSAGE_BYTES
    cut = False
    for part in message.parts:
        if isinstance(part, Call):
            raw = (
                part.malformed
                if part.malformed is not None
                else json.dumps(part.arguments, ensure_ascii=False)
            )
            size = len(raw.encode(errors="surrogatepass"))
            if size > min(MAX_BYTES, left):
                head = f"{raw[:_KEPT]}… ({size:,} bytes in all)"
                parts.append(Call(id=part.id, name=part.name, malformed=head))
                cut = True
                continue
            left -= size
        parts.append(part)
    return message.model_copy(update={"parts": tuple(parts)}) if cut else message


def distinct(message: Message) -> Message:
    """The message as it is, or with calls of one id given others: by it their results are told apart."""
    taken = {call.id for call in message.calls}
    if len(taken) == len(message.calls):
        return message
    parts: list[Part] = []
    seen: set[str] = set()
    for part in message.parts:
        if isinstance(part, Call):
            if part.id in seen:
                names = (f"{part.id}_{number}" for number in itertools.count(2))
                part = part.model_copy(update={"id": next(name for name in names if name not in taken)})
                taken.add(part.id)
            seen.add(part.id)
        parts.append(part)
    return message.model_copy(update={"parts": tuple(parts)})


def fetch(call: Call, table: Mapping[str, Syscall]) -> tuple[Syscall, Arguments]:
    """The row a call names and its arguments, checked. Raises Refused."""
    row = table.get(call.name)
    if row is None:
        raise Refused("unknown_syscall", _unknown(call.name, table))
    if call.malformed is not None:
        over = _OVER.search(call.malformed)
        if over:
            raise Refused(
                "too_large",
                f"the arguments of this call are {over[1]} bytes; at most {MAX_BYTES:,} are taken, "
                f"{MAX_MESSAGE_BYTES:,} of all calls of a message. Pass large content in several calls",
            )
        raise Refused("malformed_json", _malformed(call.malformed))
    try:
        return row, row.arguments.model_validate(call.arguments)
    except ValidationError as exc:
        raise Refused("bad_arguments", _bad(row, exc)) from None


def _unknown(name: str, table: Mapping[str, Syscall]) -> str:
    close = difflib.get_close_matches(name[:100], table, n=3, cutoff=0.4)
    meant = f" Did you mean {' or '.join(f'`{known}`' for known in close)}?" if close else ""
    return f"there is no syscall {name[:100]!r}.{meant} The syscalls are: {', '.join(table)}."


def _malformed(raw: str) -> str:
    try:
        found = type(json.loads(raw)).__name__
        what = f"a JSON object is wanted, and this is a {found}"
    except (ValueError, RecursionError) as exc:
        what = f"this is not JSON: {exc}"
    shown = raw if len(raw) <= _KEPT else raw[:_KEPT] + "…"
    return (
        f"the arguments could not be read: {what}. They were: {shown}\n"
        "Send the call again with one JSON object."
    )


def _bad(row: Syscall, exc: ValidationError) -> str:
    errors = exc.errors(include_url=False, include_input=False, include_context=False)
    missing = [str(error["loc"][-1]) for error in errors if error["type"] == "missing"]
    lines = []
    for error in errors[:10]:
        where = ".".join(str(step)[:100] for step in error["loc"]) or "arguments"
        message = error["msg"]
        if error["type"] == "extra_forbidden":
            message = "there is no such argument"
            for names in (missing, list(row.arguments.model_fields)):
                close = difflib.get_close_matches(str(error["loc"][-1])[:100], names, n=1)
                if close:
                    message += f"; did you mean `{close[0]}`?"
                    break
        elif error["type"] == "missing":
            message = "is required"
        lines.append(f"- {where}: {message}")
    return f"{row.name} was not run, its arguments are wrong:\n" + "\n".join(lines)
