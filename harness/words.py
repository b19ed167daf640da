"""Words for a person: a model's or the guest's text as one line that cannot lie, and amounts at a glance."""

from __future__ import annotations

import json
import re

from harness.messages import Call
from harness.visible import visible

LINE_CHARS = 400
"""Of one line; what is beyond is counted."""
CALL_CHARS = 240
_PADDING = re.compile(r" {24,}")


def bounded(text: str, limit: int = LINE_CHARS) -> str:
    """One line, every unprintable character escaped, padding counted, the middle cut out beyond `limit`."""
    text = _PADDING.sub(lambda run: f"␠×{len(run[0])}", text.replace("\t", "    "))
    if len(text) <= limit:
        return visible(text)
    head = limit * 2 // 3
    tail = limit - head  # The end stays in sight: what matters may stand behind a long harmless beginning.
    return f"{visible(text[:head])} …(+{len(text) - limit} characters)… {visible(text[-tail:])}"


def clean_lines(text: str) -> list[str]:
    """Lines as `\\n` and `\\r\\n` end them; nothing else ends a line, and a lone `\\r` is shown."""
    return [bounded(line.removesuffix("\r")) for line in text.split("\n")]


def summary(call: Call) -> str:
    """A call in one line: what a person would want to see of its arguments."""
    if call.malformed is not None:
        return bounded(f"{call.name} (malformed arguments) {call.malformed}", CALL_CHARS)
    arguments = call.arguments
    match call.name:
        case "bash" if isinstance(arguments.get("command"), str):
            first, *more = arguments["command"].strip().split("\n")
            return bounded(f"$ {first}", CALL_CHARS) + (f"  (+{len(more)} lines)" if more else "")
        case "read" | "write" | "edit" if isinstance(arguments.get("path"), str):
            edits = arguments.get("edits")
            content = arguments.get("content")
            detail = f" ({len(edits)} replaced)" if isinstance(edits, list) and len(edits) > 1 else ""
            detail += f" ({len(content)} characters)" if isinstance(content, str) else ""
            return bounded(f"{call.name} {arguments['path']}", CALL_CHARS) + detail
        case "grep" | "glob" if isinstance(arguments.get("pattern"), str):
            path = arguments.get("path")
            where = f" in {path}" if isinstance(path, str) else ""
            return bounded(f"{call.name} {arguments['pattern']}{where}", CALL_CHARS)
        case "recall" if isinstance(arguments.get("query") or arguments.get("page"), str):
            return bounded(f"recall {arguments.get('query') or arguments['page']}", CALL_CHARS)
        case "sudo":
            asked = {name: value for name, value in arguments.items() if name != "reason"}
            return bounded(f"sudo {json.dumps(asked, ensure_ascii=False)}", CALL_CHARS)
    return bounded(
        f"{call.name} {json.dumps(arguments, ensure_ascii=False)}" if arguments else call.name, 160
    )


def duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def amount(count: int, unit: str = "") -> str:
    """`count` in three digits or so: 12, 3.4k, 1.2M."""
    value, scales = float(count), iter("kMG")
    scale = ""
    while value >= 999.5 and (larger := next(scales, None)):
        value, scale = value / 1000, larger
    return (f"{value:.1f}{scale}" if scale else f"{count}") + unit


def counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
