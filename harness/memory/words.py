"""Pages as text: what `recall` shows of a part of a message, and where in it a query is met."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence

from harness.messages import Call, Part, Result

LINE_CHARS = 2_000
"""A longer line is shown as several, so that every part of it can be reached."""
_WORD = re.compile(r"\w+")
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff"
    "\U00020000-\U0003ffff]"
)
"""Scripts that put no space between words (Thai to Khmer, kana, Han), or none before a particle (Hangul)."""


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


def spaced(text: str) -> str:
    """Text whose words are found by any part of them where a script does not say where they end."""
    return text if text.isascii() else _UNSPACED.sub(r" \g<0> ", text)


def best_line(lines: Sequence[str], wanted: Sequence[str]) -> int:
    """The place of the line that holds most of the words, the first of several. Long words say more."""
    best, most = 0, -1
    for place, line in enumerate(lines):
        small = line.lower()
        held = sum(len(word) for word in wanted if word in small)
        if held > most:
            best, most = place, held
    return best


def excerpt(line: str, wanted: Sequence[str], size: int) -> str:
    """Of a line, what stands around the place that holds most of the words."""
    if len(line) > size:
        first, last = _densest(line.lower(), wanted, size * 2 // 3)
        start = max(0, min((first + last - size) // 2, len(line) - size))
        line = line[start : start + size]
    return line.strip()


def _densest(line: str, wanted: Sequence[str], size: int) -> tuple[int, int]:
    """Begin and end of the shortest stretch, within so many characters, that holds most different words. Long
    words say more.
    """
    short = [word for word in wanted if len(word) <= size]
    hits = sorted((hit.start(), word) for word in short for hit in re.finditer(re.escape(word), line))
    inside: Counter[str] = Counter()
    best, held, last = (0, 0, 0), 0, 0
    for at, word in hits:
        while last < len(hits) and hits[last][0] + len(hits[last][1]) <= at + size:
            inside[hits[last][1]] += 1
            held += len(hits[last][1]) if inside[hits[last][1]] == 1 else 0
            last += 1
        if last:
            end = hits[last - 1][0] + len(hits[last - 1][1])
            best = max(best, (held, -max(0, end - at), at))
        inside[word] -= 1
        held -= len(word) if inside[word] == 0 else 0
    return best[2], best[2] - best[1]


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
