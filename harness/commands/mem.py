"""`usermode mem`: what a session's context is made of, what is kept outside it, and what was paid for."""

from __future__ import annotations

import json as jsonlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from harness.commands.say import say, table
from harness.events import Compacted, Entry, MessageAdded, SessionStarted
from harness.journal.reading import read
from harness.memory.assemble import fixed_tokens
from harness.memory.pages import Page
from harness.memory.rebuild import Rebuild
from harness.memory.words import text_of
from harness.messages import Call, JsonObject, Usage
from harness.prompt import system_prompt
from harness.store import Store, home
from harness.syscalls.table import tool_specs
from harness.visible import visible
from harness.words import amount, counted, summary
from policies.schema import Policy

HEADER = ("PAGE", "KIND", "TOKENS", "STATE", "USED", "FIRST WORDS")
LATEST = 50
_WIDE = 200


@dataclass
class Memory:
    """A session's pages and what its requests cost, folded from its journal."""

    told: Rebuild
    limit: int = 0
    usage: list[Usage] = field(default_factory=list)
    cost_usd: float | None = 0.0
    """None when the price of a request is unknown."""
    copied: int = 0
    """Entries that are another session's, which paid for them, and still to come."""

    @property
    def room(self) -> int:
        """Tokens that a request may have: the policy's limit, or what the model refused if that is less."""
        return min(self.limit, self.told.memory.window or self.limit)

    def paid(self, name: str) -> int:
        return sum(getattr(one, name) for one in self.usage)


def mem(reference: str, *, everything: bool, json: bool) -> int:
    memory = load(Store(home()).session(reference))
    if json:
        for line in json_lines(memory):
            print(line)
        return 0
    pages = memory.told.memory.table.pages
    shown = pages if everything else pages[-LATEST:]
    width = min(_WIDE, shutil.get_terminal_size((100, 24)).columns)
    table([HEADER, *(row(memory, page) for page in shown)], width=width)
    if len(shown) < len(pages):
        say(f"… and {len(pages) - len(shown)} before them; --all shows them")
    for line in sums(memory):
        say(line)
    return 0


def load(directory: Path) -> Memory:
    """JournalError for a journal that is missing or damaged."""
    memory = Memory(Rebuild())
    for record in read(directory):
        entry = record.entry
        if isinstance(entry, SessionStarted):
            policy = Policy.model_validate(entry.policy)
            memory.limit = policy.limits.context_tokens
            memory.told.memory.fixed = fixed_tokens(system_prompt(policy), tool_specs())
            memory.copied = 0 if entry.forked is None else entry.forked.entries
        elif memory.copied:
            memory.copied -= 1
        else:
            _pay(memory, entry)
        memory.told.feed(entry)
    memory.told.finish()
    return memory


def _pay(memory: Memory, entry: Entry) -> None:
    paid = isinstance(entry, MessageAdded) or (isinstance(entry, Compacted) and entry.replies > 0)
    if isinstance(entry, MessageAdded | Compacted) and paid and entry.usage is not None:
        memory.usage.append(entry.usage)
        known = memory.cost_usd is not None and entry.cost_usd is not None
        memory.cost_usd = (memory.cost_usd or 0.0) + (entry.cost_usd or 0.0) if known else None


def row(memory: Memory, page: Page) -> tuple[str, ...]:
    """Cells in the columns of HEADER."""
    kind = page.kind if page.kind != "result" else f"= {page.name}"
    tokens = memory.told.memory.calibration.tokens(page.tokens)
    return (
        page.id,
        visible(kind)[:10],
        amount(tokens),
        page.state,
        str(page.used),
        first_words(memory, page),
    )


def first_words(memory: Memory, page: Page) -> str:
    """The first line that says something, every character of it printable."""
    part = memory.told.messages[page.message].parts[page.part]
    if isinstance(part, Call):
        return summary(part)
    lines = text_of(part)[: 4 * _WIDE].strip().split("\n")
    return visible(lines[0][:_WIDE])


def sums(memory: Memory) -> Iterator[str]:
    """What is sent, what is not, and what all requests cost."""
    known, pages = memory.told.memory, memory.told.memory.table.pages
    out = [page for page in pages if page.state in ("evicted", "compacted")]
    outside = known.calibration.tokens(sum(page.tokens for page in out))
    whose = "" if memory.room == memory.limit else " (more was refused)"
    room = f"{amount(memory.room)} tokens{whose}"
    yield f"context: {amount(known.tokens)} of {room}, {counted(len(pages), 'page')}"
    yield f"outside: {counted(len(out), 'page')}, {amount(outside)} tokens"
    asked = counted(len(memory.usage), "request")
    cost = "price unknown" if memory.cost_usd is None else f"${memory.cost_usd:.4f}"
    yield f"paid: {asked}, {cost}"
    yield (
        f"  in {amount(memory.paid('input_tokens'))}, cache read {amount(memory.paid('cache_read_tokens'))}, "
        f"written {amount(memory.paid('cache_write_tokens'))}, out {amount(memory.paid('output_tokens'))}"
    )


def json_lines(memory: Memory) -> Iterator[str]:
    """A line for each page, and a last one with the sums. ASCII only, as all JSON of usermode."""
    known = memory.told.memory
    for page in known.table.pages:
        yield _line(
            {
                "kind": "page",
                "page": page.id,
                "what": page.kind,
                "name": page.name,
                "tokens": known.calibration.tokens(page.tokens),
                "state": page.state,
                "used": page.used,
                "words": first_words(memory, page),
            }
        )
    yield _line(
        {
            "kind": "memory",
            "tokens": known.tokens,
            "limit": memory.room,
            "pages": len(known.table.pages),
            "requests": len(memory.usage),
            "cost_usd": memory.cost_usd,
            **{name: memory.paid(name) for name in Usage.model_fields},
        }
    )


def _line(fields: JsonObject) -> str:
    return jsonlib.dumps({"v": 1, **fields}, separators=(",", ":")).replace("\x7f", "\\u007f")
