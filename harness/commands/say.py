"""Lines for a person. Every one is made visible: names of files and sessions may be anybody's."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterable, Sequence
from shutil import get_terminal_size

from harness.visible import visible

LEAST = 12
"""Characters of a table's last column, however narrow the terminal."""
NARROW, WIDE = 40, 100
"""Columns between which prose is wrapped, whatever the terminal has."""


def say(text: str = "", *, error: bool = False) -> None:
    print(visible(text), file=sys.stderr if error else sys.stdout, flush=error)


def wrapped(text: str, indent: str = "", *, first: str | None = None) -> None:
    """Prose in lines that fit the terminal. `first` begins the first of them where it is not `indent`."""
    width = min(max(get_terminal_size().columns, NARROW), WIDE)
    start = indent if first is None else first
    for line in textwrap.wrap(text, width, initial_indent=start, subsequent_indent=indent):
        say(line)


def table(rows: Iterable[Sequence[str]], indent: str = "", *, width: int | None = None) -> None:
    """Columns as wide as their widest cell; the last is left ragged, or cut where `width` characters end."""
    cells = [[visible(cell) for cell in row] for row in rows]
    if not cells:
        return
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]) - 1)]
    left = None if width is None else max(LEAST, width - len(indent) - sum(widths) - 2 * len(widths))
    for row in cells:
        padded = [cell.ljust(wide) for cell, wide in zip(row, widths, strict=False)]
        print((indent + "  ".join([*padded, clipped(row[-1], left)])).rstrip())


def clipped(text: str, width: int | None) -> str:
    return text if width is None or len(text) <= width else text[: width - 1] + "…"
