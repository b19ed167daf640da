"""Eviction: which old results make room.

In batches, with hysteresis: nothing goes until the context is over its high water, and then as much as brings
it down to the low one. Between two batches the context only grows at its end, so a provider's cache holds.
"""

from __future__ import annotations

from harness.memory.pages import Page, PageTable

HIGH, LOW = 0.9, 0.6
"""Of `limits.context_tokens`."""
WORTH = 0.1
"""Of it, that a batch frees at least; less is not worth a lost cache, while the limit itself is kept."""
RECENT = 4
"""Turns whose results are never touched: the model is working with them."""


def choose(table: PageTable, tokens: int, limit: int, ratio: float) -> list[Page]:
    """The results to evict; nothing when there is room, or too little to gain.

    `tokens` is what the next request is expected to have, `ratio` what a page's estimate is multiplied with.
    """
    if tokens <= HIGH * limit:
        return []
    wanted, freed = tokens - LOW * limit, 0.0
    chosen: list[Page] = []
    for page in table.evictable(table.turn - RECENT + 1):
        if freed >= wanted:
            break
        chosen.append(page)
        freed += page.gain * ratio
    return chosen if freed >= WORTH * limit or tokens > limit else []
