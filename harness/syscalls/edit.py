"""Edits, the pure part: exact replacements in bytes, so that what is outside a match stays as it was.

Matching is exact but for one thing: a line feed in `old` also stands for CR LF, and what replaces it takes
the line ends of the place it goes to. A near miss is shown, never applied.
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from pydantic import Field

from harness.syscalls.base import Arguments, Refused

_MOST_PLACES = 100_000
"""That one edit replaces."""
_NEAR_BYTES = 64 << 10
"""Looked at before and after a place to tell how lines end there."""
_NEAR_LINES, _SEARCHED_BYTES = 50_000, 2 << 20
"""Of the file's beginning, searched for a near miss."""
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
    raw = edit.old.encode()
    # A line feed in `old` also stands for CR LF. Searched for in plain text and not by a pattern: there the
    # guest's file and the model's text could make one search last for hours.
    folded = b"\n" in raw and b"\r" not in raw and b"\r\n" in data
    text = data.replace(b"\r\n", b"\n") if folded else data
    found = list(itertools.islice(_places(text, raw, overlapping=not edit.all), _MOST_PLACES + 1))
    if not found:
        raise Refused("no_match", _miss(data, edit.old, number))
    if not edit.all and len(found) > 1:
        starts = _unfolded(data, found[:20]) if folded else found[:20]
        raise Refused("ambiguous", _ambiguous(_lines(data, starts), len(found) > 20, number))
    if len(found) > _MOST_PLACES:
        much = f"edits.{number}: old occurs more than {_MOST_PLACES:,} times"
        raise Refused("too_large", f"{much}; do that with a program. Nothing was changed")
    ends = [end for start in found for end in (start, start + len(raw))]
    if folded:
        ends = _unfolded(data, ends)
    spans = zip(ends[::2], ends[1::2], strict=True)
    return [_Span(start, end, _new(data, start, end, edit), number) for start, end in spans]


def _places(text: bytes, raw: bytes, *, overlapping: bool) -> Iterator[int]:
    """Where it occurs. Those that overlap are two places as well, but cannot both be replaced."""
    at = text.find(raw)
    while at >= 0:
        yield at
        at = text.find(raw, at + (1 if overlapping else len(raw)))


def _unfolded(data: bytes, positions: Sequence[int]) -> list[int]:
    """Where ascending positions of the text whose CR LF were made LF lie in `data`, in one pass."""
    out: list[int] = []
    here = there = 0
    for position in positions:
        start, end = there, there + position - here
        # Each pair that begins before it moves it on by one byte.
        while more := data.count(b"\r\n", start, end + 1):
            start, end = end, end + more
        here, there = position, end
        out.append(there)
    return out


def _ambiguous(lines: Sequence[int], more: bool, number: int) -> str:
    places = ", ".join(map(str, lines)) + (", …" if more else "")
    return (
        f"edits.{number}: old occurs more than once (line {places}); include more of the lines around it, or "
        "say `all`. Nothing was changed"
    )


def _new(data: bytes, start: int, end: int, edit: Replacement) -> bytes:
    new = edit.new.encode()
    if b"\n" not in new or b"\r" in new or "\r" in edit.old or not _crlf_at(data, start, end):
        return new
    return new.replace(b"\n", b"\r\n")


def _crlf_at(data: bytes, start: int, end: int) -> bool:
    """Whether lines end in CR LF here: in the match, else at its line's end, else before it."""
    place = data.find(b"\n", start, end)
    if place < 0:
        place = data.find(b"\n", end, end + _NEAR_BYTES)
    if place < 0:
        place = data.rfind(b"\n", max(0, start - _NEAR_BYTES), start)
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
    lines = data[:_SEARCHED_BYTES].decode("utf-8", "backslashreplace").splitlines()
    near = _nearest(lines[:_NEAR_LINES], old.splitlines())
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
