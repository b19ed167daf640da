"""Eviction: which old results make room, and what stands in their place.

In batches, with hysteresis: nothing goes until the context is over its high water, and then as much as brings
it down to the low one. Between two batches the context only grows at its end, so a provider's cache holds.
"""

from __future__ import annotations

from typing import NamedTuple

from harness.memory.pages import Page, PageTable, text_tokens
from harness.messages import Result
from harness.words import bounded

HIGH, LOW = 0.9, 0.6
"""Of `limits.context_tokens`."""
WORTH = 0.1
"""Of it, that a batch frees at least; less is not worth a lost cache, while the limit itself is kept."""
RECENT = 4
"""Turns whose results are never touched: the model is working with them."""
_LINE = 160
"""Characters of a line of the gist."""
_NEWLINE = "\n"


class Victim(NamedTuple):
    page: Page
    stub: str
    """What the model is sent in its place."""
    gain: int
    """Estimated tokens that the context loses."""


def choose(table: PageTable, tokens: int, limit: int, ratio: float) -> list[Victim]:
    """The results to evict; nothing when there is room, or too little to gain.

    `tokens` is what the next request is expected to have, `ratio` what a page's estimate is multiplied with.
    """
    if tokens <= HIGH * limit:
        return []
    wanted, freed = tokens - LOW * limit, 0.0
    chosen: list[Victim] = []
    for page in table.evictable(table.turn - RECENT + 1):
        if freed >= wanted:
            break
        result = table.part(page)
        assert isinstance(result, Result)
        text = stub(page, result)
        gain = page.tokens - text_tokens(text)
        if gain > 0:
            chosen.append(Victim(page, text, gain))
            freed += gain * ratio
    return chosen if freed >= WORTH * limit or tokens > limit else []


def stub(page: Page, result: Result) -> str:
    """What the model sees of an evicted result: what it was, how it began and ended, how to have it again."""
    text = result.content.strip()
    size = f"{len(result.content):,} characters, {result.content.count(_NEWLINE) + 1:,} lines"
    told = (
        f"[page {page.id}: this result ({size}) is kept outside the context; "
        f'recall {{"page": "{page.id}"}} shows it again]'
    )
    if text:
        told += f"\nit begins: {_line(text.partition(_NEWLINE)[0])}"
    if _NEWLINE in text:
        # A command's last line says how it ended.
        told += f"\nit ends: {_line(text.rpartition(_NEWLINE)[2])}"
    return told


def _line(text: str) -> str:
    text = text.strip()
    # A batch has hundreds of them, and most are short and plain.
    plain = len(text) <= _LINE and text.isascii() and text.isprintable() and "    " not in text
    return text if plain else bounded(text, _LINE)
