"""Memory as the kernel uses it: what to send, what to put out first, what to learn from the answer.

The order in a turn: `make_room`, its entry journalled, `apply`, `assemble`, the request, `observe`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from harness.errors import JournalError
from harness.events import Compacted, Entry, Notice, PagesEvicted
from harness.memory.calibration import Calibration
from harness.memory.eviction import HIGH, choose
from harness.memory.facts import Facts
from harness.memory.pages import PageTable
from harness.memory.prefix import Prefix
from harness.messages import Message, Usage, user
from harness.provider import LEAST_OUTPUT_TOKENS, OUTPUT_TOKENS, ToolSpec

HELPS = 0.1
"""Of the context, that a compaction has to free to be worth anything."""


class Memory:
    """The context of one session. Rebuilt from the journal by `rebuild.py`, it is the same again."""

    def __init__(self) -> None:
        self.table = PageTable()
        self.prefix = Prefix()
        self.calibration = Calibration()
        self.fixed = 0
        """Estimated tokens of what goes with every request: the system prompt and the tools."""
        self.facts = Facts()
        """What a summary must not forget."""
        self.compacted: Compacted | None = None
        """What stands in place of the first messages."""
        self.unhelpful = 0
        """Compactions in a row that hardly freed anything."""
        self.window: int | None = None
        """A size that the model refused."""
        self.output = OUTPUT_TOKENS
        """Of a reply, at most; less where the service refuses to grant so many."""
        self.replies = 0
        """Replies of the model that were replaced."""
        self._asked = 0

    @property
    def tokens(self) -> int:
        """Of the next request, by what the provider counted so far."""
        return self.calibration.tokens(self.fixed + self.table.tokens)

    def full(self, limit: int) -> bool:
        """Whether the context is over its high water."""
        return self.tokens > HIGH * limit

    def make_room(self, messages: Sequence[Message], limit: int) -> PagesEvicted | None:
        """What to evict before the next request; nothing is changed yet."""
        self.table.take(messages)
        before = self.tokens
        chosen = choose(self.table, before, limit, self.calibration.ratio)
        if not chosen:
            return None
        after = before - self.calibration.tokens(sum(page.gain for page in chosen))
        pages = [{"page": page.id, "tokens": page.tokens, "stub": page.stub} for page in chosen]
        return PagesEvicted.model_validate({"pages": pages, "tokens_before": before, "tokens_after": after})

    def apply(self, evicted: PagesEvicted) -> None:
        """Use the shorter context; the entry is in the journal."""
        self.table.evict((one.page, one.stub) for one in evicted.pages)

    def use(self, entry: Entry, messages: Sequence[Message]) -> None:
        """Use the shorter context that an entry in the journal describes; others mean nothing here."""
        match entry:
            case PagesEvicted():
                self.apply(entry)
            case Compacted():
                self._compact(entry, messages)

    def _compact(self, entry: Compacted, messages: Sequence[Message]) -> None:
        begun = self.compacted.through if self.compacted is not None else 0
        # Between a call and its result there is no place to part them.
        parted = entry.through < len(messages) and messages[entry.through].role == "tool"
        if not max(begun, 1) <= entry.through <= len(messages) or parted:
            raise JournalError(f"message {entry.through} is no place to compact to", code="corrupt")
        self.table.compact(entry.through, [user(entry.head)])
        self.compacted = entry
        self.replies = sum(message.role == "assistant" for message in messages[: entry.through])
        small = entry.tokens_after <= (1 - HELPS) * entry.tokens_before
        self.unhelpful = 0 if small else self.unhelpful + 1

    def ask_less(self, refused: int) -> bool:
        """Ask for shorter replies than this; False where that is no use, and what is sent has to be less."""
        helps = refused > LEAST_OUTPUT_TOKENS
        # With less in the context they may be long again.
        self.output = max(LEAST_OUTPUT_TOKENS, refused // 2) if helps else OUTPUT_TOKENS
        return helps

    def assemble(self, messages: Sequence[Message]) -> Sequence[Message]:
        """What the model is sent: the last request's messages and what has come since, unless pages went."""
        self.sent(messages)
        return self.table.snapshot()

    def sent(self, messages: Sequence[Message]) -> None:
        """Take in that the model is, or was, sent these."""
        self.table.take(messages)
        if self.table.restarted:
            self.prefix.restart()
        elif self.table.changed:
            self.prefix.change(self.table.changed, self.table.context)
        self.table.changed, self.table.restarted = [], False
        self.prefix.extend(self.table.context)
        self._asked = self.fixed + self.table.tokens

    def observe(self, usage: Usage) -> Notice | None:
        """Learn from what the last request cost; a notice when the provider's cache was lost."""
        counted = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
        self.calibration = self.calibration.observe(self._asked, counted)
        told = self.prefix.answered(usage)
        return None if told is None else Notice(level="warning", code="cache", text=told)


def fixed_tokens(system: str, tools: Sequence[ToolSpec]) -> int:
    """Estimated, of what goes with every request."""
    text = system + json.dumps([vars(tool) for tool in tools], ensure_ascii=False)
    return -(-len(text.encode(errors="surrogatepass")) // 4)
