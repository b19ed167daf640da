"""Edits, the pure part: exact replacements in bytes, so that what is outside a match stays as it was.

Matching is exact but for one thing: a line feed in `old` also stands for CR LF, and what replaces it takes
the line ends of the place it goes to. A near miss is shown, never applied.
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pydantic import Field

from harness.syscalls.base import Arguments, Refused

_NEAR_LINES = 50_000
"""Lines searched for a near miss."""
_CANDIDATES = 20
_COMPARED = 30
"""Lines of a candidate that are compared letter by letter."""
_LETTERS_UP_TO = 5_000
"""Lines of a file in which candidates are looked for by letters; beyond, by words."""
_WORD = re.compile(r"\w+")


class Replacement(Arguments):
    old: str = Field(
        min_length=1,
        description="Exact text; must occur once, unless `all`. Include lines around it to make it unique.",
    )
    new: str = Field(description="What takes its place.")
    all: bool = Field(False, description="Replace every occurrence.")


@dataclass(frozen=True)
class Edited:
    data: bytes
    lines: tuple[int, ...]
    """Where the replacements begin, in the old file, in order."""


@dataclass(frozen=True)
class _Span:
    start: int
    end: int
    new: bytes
    edit: int


def apply(data: bytes, edits: Sequence[Replacement]) -> Edited:
    """All edits, against the same original. Refused: `no_match`, `ambiguous`, `conflict`, `bad_arguments`."""
    spans: list[_Span] = []
    for number, edit in enumerate(edits):
        spans += _spans(data, edit, number)
    spans.sort(key=lambda span: span.start)
    for one, other in itertools.pairwise(spans):
        if other.start < one.end:
            raise Refused(
                "conflict",
                f"edits.{one.edit} and edits.{other.edit} overlap at line {_line(data, other.start)}; "
                "make them one edit. Nothing was changed",
            )
    pieces, position = [], 0
    for span in spans:
        pieces += [data[position : span.start], span.new]
        position = span.end
    pieces.append(data[position:])
    return Edited(b"".join(pieces), _lines(data, [span.start for span in spans]))


def _spans(data: bytes, edit: Replacement, number: int) -> list[_Span]:
    if edit.old == edit.new:
        raise Refused("bad_arguments", f"edits.{number}: old and new are the same. Nothing was changed")
    pattern = _pattern(edit.old)
    found = list(pattern.finditer(data)) if edit.all else _only(data, pattern, number)
    if not found:
        raise Refused("no_match", _miss(data, edit.old, number))
    return [_Span(match.start(), match.end(), _new(data, match, edit), number) for match in found]


def _only(data: bytes, pattern: re.Pattern[bytes], number: int) -> list[re.Match[bytes]]:
    first = pattern.search(data)
    if first is None:
        return []
    # One byte on, not past the match: occurrences that overlap are two places as well.
    if pattern.search(data, first.start() + 1) is None:
        return [first]
    starts = [match.start() for match in pattern.finditer(data)]
    places = ", ".join(str(line) for line in _lines(data, starts[:20])) + (", …" if len(starts) > 20 else "")
    raise Refused(
        "ambiguous",
        f"edits.{number}: old occurs more than once (line {places}); include more of the lines around it, or "
        "say `all`. Nothing was changed",
    )


def _pattern(old: str) -> re.Pattern[bytes]:
    raw = old.encode()
    if b"\r" in raw:
        return re.compile(re.escape(raw))
    # The half of a CR LF is no line end of its own.
    return re.compile(rb"(?:\r\n|(?<!\r)\n)".join(re.escape(line) for line in raw.split(b"\n")))


def _new(data: bytes, match: re.Match[bytes], edit: Replacement) -> bytes:
    new = edit.new.encode()
    if b"\r" in new or "\r" in edit.old or not _crlf_at(data, match):
        return new
    return new.replace(b"\n", b"\r\n")


def _crlf_at(data: bytes, match: re.Match[bytes]) -> bool:
    """Whether lines end in CR LF here: in the match, else at its line's end, else before it."""
    inside = match[0].find(b"\n")
    if inside >= 0:
        return (
            match[0][inside - 1 : inside] == b"\r"
            if inside
            else data[match.start() - 1 : match.start()] == b"\r"
        )
    after = data.find(b"\n", match.end())
    place = after if after >= 0 else data.rfind(b"\n", 0, match.start())
    return place > 0 and data[place - 1 : place] == b"\r"


def _line(data: bytes, position: int) -> int:
    return data.count(b"\n", 0, position) + 1


def _lines(data: bytes, positions: Sequence[int]) -> tuple[int, ...]:
    """Line numbers of ascending positions, in one pass."""
    lines, line, last = [], 1, 0
    for position in positions:
        line += data.count(b"\n", last, position)
        lines.append(line)
        last = position
    return tuple(lines)


def _miss(data: bytes, old: str, number: int) -> str:
    text = f"edits.{number}: old does not occur in the file. Nothing was changed."
    if not data:
        return text + " The file is empty; use `write`."
    near = _nearest(data.decode("utf-8", "backslashreplace").splitlines()[:_NEAR_LINES], old.splitlines())
    if near is None:
        return text + " No part of it is similar; `read` the file again."
    start, lines, same_but_space = near
    shown = "\n".join(f"{start + index + 1:6d}\t{line[:500]}" for index, line in enumerate(lines))
    hint = " They differ in white space only." if same_but_space else ""
    return f"{text} The closest lines are:{hint}\n{shown}\nCopy them exactly."


def _nearest(lines: list[str], wanted: list[str]) -> tuple[int, list[str], bool] | None:
    """The window most like `wanted`: index, lines, and whether only white space differs."""
    wanted = wanted[:100]
    words = [" ".join(line.split()) for line in wanted]
    have = [" ".join(line.split()) for line in lines]
    key = max(words, key=len, default="")
    if not key:
        return None
    anchor = words.index(key)
    # First cheaply, by the longest wanted line; then the best few, line against line.
    alike = _by_letters(key) if len(have) <= _LETTERS_UP_TO else _by_words(key)
    scored = sorted(range(len(have)), key=lambda index: -alike(have[index]))[:_CANDIDATES]
    best, best_ratio = None, 0.5
    for index in scored:
        start = max(0, index - anchor)
        ratio = _likeness(have[start : start + len(words)], words)
        if ratio > best_ratio:
            best, best_ratio = start, ratio
    if best is None:
        return None
    window = have[best : best + len(words)]
    return best, lines[best : best + len(words)], window == words


def _likeness(window: list[str], words: list[str]) -> float:
    pairs = list(zip(window, words, strict=False))[:_COMPARED]
    ratios = [
        1.0 if one == other else difflib.SequenceMatcher(None, one[:200], other[:200], autojunk=False).ratio()
        for one, other in pairs
    ]
    return sum(ratios) / min(len(words), _COMPARED)


def _by_letters(key: str) -> Callable[[str], float]:
    matcher = difflib.SequenceMatcher(None, "", key[:200], autojunk=False)

    def alike(line: str) -> float:
        if line == key:
            return 2.0
        matcher.set_seq1(line[:200])
        return matcher.quick_ratio() if matcher.real_quick_ratio() > 0.5 else 0.0

    return alike


def _by_words(key: str) -> Callable[[str], float]:
    """Quicker, for long files: how many words two lines share."""
    wanted = set(_WORD.findall(key))

    def alike(line: str) -> float:
        if line == key:
            return 2.0
        have = set(_WORD.findall(line[:500]))
        return len(wanted & have) / (len(wanted | have) or 1)

    return alike
