"""Pages as text: what `recall` shows of a part of a message, and where in it a query is met."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from harness.messages import Call, Part, Result

LINE_CHARS = 2_000
"""A longer line is shown as several, so that every part of it can be reached."""
_WORD = re.compile(r"\w+")


def text_of(part: Part) -> str:
    """All of it. A call's strings stand as they are, so that a written file reads as one."""
    match part:
        case Call():
            if part.malformed is not None:
                return f"{part.name}\n{part.malformed}"
            return "\n".join(
                [part.name, *(f"{key}: {_plain(value)}" for key, value in part.arguments.items())]
            )
        case Result():
            return part.content
    return part.text


def lines_of(text: str) -> list[str]:
    """Its lines, none of them longer than LINE_CHARS."""
    lines = []
    for line in text.removesuffix("\n").split("\n"):
        lines += [line[at : at + LINE_CHARS] for at in range(0, len(line), LINE_CHARS)] or [""]
    return lines


def words(query: str) -> list[str]:
    """The words of a query, in small letters and once each: letters and digits alone, of any script."""
    return list(dict.fromkeys(_WORD.findall(query.lower())))


def best_line(lines: Sequence[str], wanted: Sequence[str]) -> int:
    """The place of the line that holds most of the words, the first of several."""
    best, most = 0, -1
    for place, line in enumerate(lines):
        small = line.lower()
        held = sum(word in small for word in wanted)
        if held > most:
            best, most = place, held
    return best


def excerpt(line: str, wanted: Sequence[str], size: int) -> str:
    """Of a line, what stands around the first word that it holds."""
    small = line.lower()
    found = [at for at in (small.find(word) for word in wanted) if at >= 0]
    start = max(0, min(found, default=0) - size // 3)
    return line[start : start + size].strip()


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
