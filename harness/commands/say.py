"""Lines for a person. Every one is made visible: names of files and sessions may be anybody's."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from harness.visible import visible


def say(text: str = "", *, error: bool = False) -> None:
    print(visible(text), file=sys.stderr if error else sys.stdout, flush=error)


def table(rows: Iterable[Sequence[str]], indent: str = "") -> None:
    """Columns as wide as their widest cell; the last is left ragged."""
    cells = [[visible(cell) for cell in row] for row in rows]
    if not cells:
        return
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]) - 1)]
    for row in cells:
        padded = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        print((indent + "  ".join([*padded, row[-1]])).rstrip())
