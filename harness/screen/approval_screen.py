"""The approval prompt, as text: a petition in rows of a terminal that cannot be made to lie.

Pure. All of a petition may come from the model or the guest: every code point that is not plainly printable
is shown escaped, runs of blanks are counted, and no row of a value can pass for a row of ours, which alone
begins with the session's mark. What is longer than the screen is paged, its last rows always in sight.
"""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from harness.approvals.petition import SAID_CHARS, Kind, Petition
from harness.visible import visible

MIN_COLUMNS, MIN_ROWS = 24, 8
RUN_SHOWN = 8
"""Blanks or repeated escapes in a row that are shown one by one; more are counted."""
LABEL_COLUMNS = 12
TAIL_ROWS = 2
"""Of what would happen, in sight on every page."""
VALUE_CHARS = 256 << 10
"""Of one fact. What is longer is cut in its middle, and is never remembered."""
TITLES: dict[Kind, str] = {
    "call": "The policy asks about this call:",
    "network": "To be reached from the sandbox:",
    "root": "To be run as root in the sandbox:",
    "secret": "To be used by the sandbox, a secret:",
    "host_path": "To be copied into the sandbox:",
    "limits": "To be changed for this session:",
}
_BLANKS = re.compile(rf"[ \t\n]{{{RUN_SHOWN + 1},}}")
_ESCAPE = re.compile(rf"(\\x[0-9a-f]{{2}}|\\r|<U\+[0-9A-F]{{4,6}}>)\1{{{RUN_SHOWN},}}")


@dataclass(frozen=True)
class Document:
    """A petition as rows of one width, without the frame."""

    rows: tuple[str, ...]
    facts_end: int
    """Rows before it are the facts; from it on come the model's words."""
    tail_end: int
    """The row that follows the longest fact, whose end stays in sight."""
    flagged: bool
    """It holds what does not show, is padded, or was cut: nothing of it is remembered."""


@dataclass(frozen=True)
class Page:
    rows: tuple[str, ...]
    """Those of the document that this page shows, what is left out said in a row of its own."""
    last: int
    """The document's row that follows the page."""
    whole: bool
    """Whether the document ends with this page."""


def document(petition: Petition, columns: int) -> Document:
    """What would happen, then the model's reason. No row is wider than `columns`."""
    rows = list(wrapped(TITLES[petition.kind], columns))
    flagged = False
    longest = tail_end = 0
    for label, value in petition.facts:
        text, odd = shown(value)
        flagged = flagged or odd or shown(label)[1]
        before = len(rows)
        rows += _fact(visible(label)[:LABEL_COLUMNS], text, columns)
        if len(rows) - before > longest:
            longest, tail_end = len(rows) - before, len(rows)
    facts_end = len(rows)
    said = visible(petition.said[:SAID_CHARS])
    rest = len(petition.said) - SAID_CHARS
    if said.strip():
        rows += wrapped("The model says, which proves nothing:", columns)
        more = f" … and {rest} characters more" if rest > 0 else ""
        rows += (f"> {row}" for row in wrapped(_counted(f'"{said}"{more}')[0], columns - 2))
    return Document(tuple(rows), facts_end, tail_end, flagged)


def shown(value: str) -> tuple[str, bool]:
    """A value as it is displayed, and whether it holds anything that would not have shown itself. A newline
    stands as a sign and a newline."""
    cut = len(value) > VALUE_CHARS
    if cut:
        half = VALUE_CHARS // 2
        value = f"{value[:half]}<{len(value) - 2 * half} characters left out>{value[-half:]}"
    block = visible(value, multiline=True)
    odd = block != value
    text, padded = _counted(block)
    return text.replace("\t", r"\t").replace("\n", "↵\n"), cut or odd or padded


def _counted(text: str) -> tuple[str, bool]:
    """Runs as a count: `␠×5000`."""
    counted = _BLANKS.sub(_blanks, text)
    counted = _ESCAPE.sub(lambda found: f"{found[1]}×{len(found[0]) // len(found[1])}", counted)
    return counted, counted != text


def _blanks(found: re.Match[str]) -> str:
    signs = {" ": "␠", "\t": "⇥", "\n": "↵"}
    return "".join(f"{sign}×{count}" for char, sign in signs.items() if (count := found[0].count(char)))


def _fact(label: str, text: str, columns: int) -> Iterator[str]:
    """The label once; every other row of the value is marked as the same value going on."""
    indent = LABEL_COLUMNS if columns >= 4 * LABEL_COLUMNS else 2
    head = f"{label:<{indent}}" if len(label) < indent else None
    if head is None:
        yield f"{label}:"
        head = " " * indent
    for line in text.split("\n"):
        for row in wrapped(line, columns - indent):
            yield head + row
            head = " " * (indent - 2) + ": "


def width_of(char: str) -> int:
    """The most columns a terminal gives it. ASCII is sure; where terminals differ, the wider."""
    if char.isascii():
        return 1
    if unicodedata.category(char) in ("Mn", "Me"):
        return 0
    return 1 if unicodedata.east_asian_width(char) in ("Na", "N", "H") else 2


def wrapped(text: str, columns: int) -> Iterator[str]:
    """Rows that a terminal does not break again. Nothing is lost: at least one row, cut anywhere."""
    row: list[str] = []
    used = 0
    for char in text:
        width = width_of(char)
        if used + width > columns and row:
            yield "".join(row)
            row, used = [], 0
        row.append(char)
        used += width
    yield "".join(row)


def page(text: Document, top: int, room: int) -> Page:
    """`room` rows of the document from row `top` on. Where the rest does not fit, the last rows of the
    longest fact stand at the page's end: what follows a long harmless beginning is never out of sight."""
    if len(text.rows) - top <= room:
        return Page(text.rows[top:], len(text.rows), True)
    tail = min(TAIL_ROWS, max(0, room - 3))
    last = top + room - tail - 1
    end = text.tail_end if text.tail_end > last else text.facts_end
    pinned = text.rows[max(last, end - tail) : end]
    more = f"... {len(text.rows) - last} rows more: space ..."
    return Page((*text.rows[top:last], more, *pinned), last, False)


def framed(mark: str, name: str, body: tuple[str, ...], foot: tuple[str, ...], columns: int) -> list[str]:
    """The screen's rows: only they begin with the mark. All of the frame is ASCII, whose width is sure."""
    title = f"{mark} usermode asks"
    if len(title) + len(name) + 3 <= columns:
        title += f", {name}"
    edge = columns - len(mark) - 3
    rows = [title]
    rows += (f"{mark} | {row}" for row in body)
    for text in foot:  # Our own words alone, so they may be broken where words end.
        rows += (f"{mark} {row}" for row in textwrap.wrap(text, edge + 1))
    return rows


def body_columns(mark: str, columns: int) -> int:
    return columns - len(mark) - 4
