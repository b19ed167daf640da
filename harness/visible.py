"""Text that cannot lie about itself: every code point that is not plainly printable is shown escaped.

What a guest, a model or a file name says may carry terminal escapes, direction marks, invisible or look-alike
blank characters. What ends on a screen goes through `visible` first: it moves no cursor and hides nothing.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

MARKS_IN_A_ROW = 4
"""Combining marks after one base character; more than scripts need would paint over the lines around."""

# Printable by category, but drawn as nothing or as a blank: default-ignorable letters and marks, fillers,
# variation selectors, the empty braille cell.
_BLANK = frozenset(
    [
        *(0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0),
        *range(0x180B, 0x1810),
        *range(0xFE00, 0xFE10),
        *range(0xE0000, 0xE1000),
    ]
)
_REMEMBERED = 8192


class _Table(dict[int, int | str]):
    """A table for str.translate that fills itself, up to a bound."""

    def __init__(self, answer: Callable[[int], int | str], kept: str = "") -> None:
        super().__init__({ord(char): char for char in kept})
        self._answer = answer

    def __missing__(self, code: int) -> int | str:
        answer = self._answer(code)
        if len(self) < _REMEMBERED:
            self[code] = answer
        return answer


def _escaped(code: int) -> str:
    named = {0x09: r"\t", 0x0A: r"\n", 0x0D: r"\r"}.get(code)
    return named or (f"\\x{code:02x}" if code < 0x100 else f"<U+{code:04X}>")


def _shown(code: int) -> int | str:
    # str.isprintable is false for Cc, Cf, Cs, Co, Cn, Zl, Zp and every space but U+0020.
    return code if chr(code).isprintable() and code not in _BLANK else _escaped(code)


def _role(code: int) -> str:
    if unicodedata.category(chr(code)) in ("Mn", "Me"):
        return "m"
    return " " if chr(code).isspace() else "b"


_LINE = _Table(_shown)
_BLOCK = _Table(_shown, kept="\n\t")
_ROLE = _Table(_role)
# A mark after a blank would combine with the layout, and one too many with other lines.
_STRAY_MARKS = re.compile(rf"(?:(?<![bm])|(?<=m{{{MARKS_IN_A_ROW}}}))m+")


def visible(text: str, *, multiline: bool = False) -> str:
    r"""`text` with everything escaped that is not plainly printable: `\x1b`, `<U+202E>`.

    Newlines and tabs are shown as `\n` and `\t` unless `multiline` keeps them. A backslash is left as it is:
    the result is for reading, not for parsing. Applying it twice changes nothing more.
    """
    if text.isascii() and text.isprintable():
        return text  # Nearly all there is, and twenty times as quick.
    shown = text.translate(_BLOCK if multiline else _LINE)
    if shown.isascii():
        return shown
    out: list[str] = []
    done = 0
    for stray in _STRAY_MARKS.finditer(shown.translate(_ROLE)):
        out.append(shown[done : stray.start()])
        out.extend(_escaped(ord(char)) for char in shown[stray.start() : stray.end()])
        done = stray.end()
    return "".join([*out, shown[done:]])
