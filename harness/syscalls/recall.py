"""`recall`: bring back what is no longer in the context, by its page or by words (swap in).

What comes back is the journal's text, so redacted, and it is bounded; the rest is reached with `offset`.
"""

from __future__ import annotations

import asyncio

from pydantic import Field

from harness.errors import JournalError
from harness.memory.index import MAX_WORDS, Found, Index
from harness.memory.words import best_line, excerpt, lines_of, words
from harness.notices import NOTICES
from harness.syscalls.base import Access, Arguments, Context, Outcome, Refused

PAGES = 8
"""Shown of a search."""
_AROUND = 2
"""Lines shown before and after the one that answers best."""
_EXCERPT = 300
"""Characters shown of a line that a search found."""


class Recall(Arguments):
    page: str | None = Field(None, max_length=20, description="A page's name, e.g. `p12`.")
    query: str | None = Field(
        None,
        min_length=1,
        max_length=1_000,
        description="Words to look for in all that was said, called and returned in this session.",
    )
    offset: int = Field(1, ge=1, le=10**9, description="First line of the page to show.")
    limit: int = Field(2_000, ge=1, le=100_000, description="Lines of the page to show at most.")


def access(arguments: Recall, cwd: str) -> Access:
    return Access(reads=("memory",))


async def recall(context: Context, arguments: Recall) -> Outcome:
    if (arguments.page is None) == (arguments.query is None):
        raise Refused("bad_arguments", "recall was not run: give either `page` or `query`")
    if context.archive is None:
        raise Refused("failed", "this session keeps no journal that could be looked into")
    try:
        if arguments.query is not None:
            return await _search(context.archive, arguments.query)
        return await _page(context, context.archive, arguments)
    except JournalError as exc:
        raise Refused("failed", f"nothing can be recalled: {exc}") from exc


async def _page(context: Context, archive: Index, arguments: Recall) -> Outcome:
    assert arguments.page is not None
    found = await asyncio.to_thread(archive.page, arguments.page)
    if found is None:
        raise Refused(
            "not_found", f"there is no page {arguments.page!r}; look for it with `query` and words of it"
        )
    context.session.memory.table.touch(found.id)
    lines = lines_of(found.text)
    first = arguments.offset
    if first > len(lines):
        raise Refused("bad_arguments", f"offset: {found.id} has {len(lines):,} lines")
    shown: list[str] = []
    budget = context.limits.output_bytes
    for line in lines[first - 1 : first - 1 + arguments.limit]:
        budget -= len(line.encode(errors="surrogatepass")) + 1
        if budget < 0 and shown:
            break
        shown.append(line)
    last = first - 1 + len(shown)
    head = f"[{_named(found)}; lines {first} to {last} of {len(lines)}]"
    more = [f"[more lines follow; go on with offset {last + 1}]"] if last < len(lines) else []
    return Outcome("\n".join([head, *shown, *more]), None, {"recalled": [found.id]})


async def _search(archive: Index, query: str) -> Outcome:
    found = await asyncio.to_thread(archive.search, query, PAGES)
    if not found:
        return Outcome("[no page holds any of these words]")
    # A page may have a million lines, each of which is looked at for every word.
    wanted = words(query)[:MAX_WORDS]
    blocks = await asyncio.to_thread(lambda: [_block(page, wanted) for page in found])
    last = f'[the best first; recall {{"page": "{found[0].id}"}} shows all of one]'
    return Outcome("\n".join([*blocks, last]), None, {"found": [page.id for page in found]})


def _block(page: Found, wanted: list[str]) -> str:
    """A page of a search: what it is, and the lines around the one that answers best."""
    lines = lines_of(page.text)
    best = best_line(lines, wanted)
    first, after = max(0, best - _AROUND), best + _AROUND + 1
    shown = (
        f"{number + 1:6d}\t{excerpt(lines[number], wanted, _EXCERPT)}"
        for number in range(first, min(after, len(lines)))
    )
    return "\n".join([f"[{_named(page)}]", *shown])


def _named(page: Found) -> str:
    what = {
        "user": "the user's message",
        "model": "your message",
        "thinking": "your thinking",
        "call": f"your call of {page.name}",
        "result": f"the result of {page.name}",
    }
    who = "usermode's message" if page.kind == "user" and page.text in NOTICES else what[page.kind]
    return f"page {page.id}: {who}, turn {page.turn}, {len(page.text):,} characters"
