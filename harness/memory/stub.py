"""Stubs: the few lines that stand in an evicted result's place."""

from __future__ import annotations

from harness.words import bounded

_LINE = 160
"""Characters of a line of the gist."""
_NEWLINE = "\n"


def stub(page_id: str, content: str) -> str:
    """What the model sees of an evicted result: what it was, how it began and ended, how to have it again."""
    told = (
        f"[page {page_id}: this result ({len(content):,} characters) is kept outside the context; "
        f'recall {{"page": "{page_id}"}} shows it again]'
    )
    first, newline, rest = content.strip().partition(_NEWLINE)
    if first:
        told += f"\nit begins: {_line(first)}"
    if newline:
        # A command's last line says how it ended.
        told += f"\nit ends: {_line(rest[rest.rfind(_NEWLINE) + 1 :])}"
    return told


def _line(text: str) -> str:
    text = text.strip()
    # A session has thousands of them, and most are short and plain.
    plain = len(text) <= _LINE and text.isascii() and text.isprintable() and "    " not in text
    return text if plain else bounded(text, _LINE)
