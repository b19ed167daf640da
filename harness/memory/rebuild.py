"""A session's messages and memory, folded from the entries of its journal: the same table, page for page."""

from __future__ import annotations

from harness.events import CallOutcome, Entry
from harness.journal.timeline import Timeline
from harness.memory.assemble import Memory
from harness.messages import Message, Result


class Rebuild:
    """Feed it the entries in their order.

    Results are journalled one by one, as calls end; the model gets them as one message, in its calls' order.
    """

    def __init__(self, fixed: int = 0) -> None:
        self.memory = Memory()
        self.memory.fixed = fixed
        self.messages: list[Message] = []
        self._results: dict[str, Result] = {}
        """By call id."""
        self.model = ""
        """Whom the session last asked, """
        self.service: str | None = None
        """and where."""
        self._timeline: Timeline[Entry] = Timeline()

    def feed(self, entry: Entry) -> None:
        match entry.kind:
            case "window_learned":
                # No part of what was said: it stands whatever is taken back.
                self.memory.window = entry.tokens
            case "checkpointed":
                self._timeline.mark(entry.number)
            case "rewound":
                self._go_back(self._timeline.back(entry.to))
            case "session_started" | "resumed":
                if (entry.model, entry.service) != (self.model, self.service):
                    self.memory.window = None
                self.model, self.service = entry.model, entry.service
            case _:
                self._timeline.add(entry)
                self._fold(entry)

    def _go_back(self, kept: list[Entry]) -> None:
        """As it was at a checkpoint: told anew, since nothing of what is known can be untold."""
        fixed, window = self.memory.fixed, self.memory.window
        self.memory, self.messages, self._results = Memory(), [], {}
        self.memory.fixed, self.memory.window = fixed, window
        for entry in kept:
            self._fold(entry)

    def _fold(self, entry: Entry) -> None:
        self.memory.facts.feed(entry)
        match entry.kind:
            case "call_outcome":
                self._results.setdefault(entry.result.call_id, entry.result)
                for page in recalled(entry):
                    self.memory.table.touch(page)
            case "pages_evicted" | "compacted":
                self.settle()
                self.memory.table.take(self.messages)
                self.memory.use(entry, self.messages)
            case "message":
                if entry.message.role == "tool":
                    self._results.clear()
                self.settle()
                if entry.message.role == "assistant":
                    self.memory.sent(self.messages)
                    if entry.usage is not None:
                        self.memory.observe(entry.usage)
                self.messages.append(entry.message)

    def finish(self) -> None:
        """At the end: results that are not all there yet, since calls still run, make no message."""
        awaited = self.messages[-1].calls if self.messages else ()
        if len(self._results) == len(awaited):
            self.settle()
        self.memory.table.take(self.messages)

    def settle(self) -> None:
        """Make the message of the results that have come."""
        if not self._results:
            return
        calls = self.messages[-1].calls if self.messages else ()
        parts = tuple(self._results[call.id] for call in calls if call.id in self._results)
        self._results.clear()
        if parts:
            self.messages.append(Message(role="tool", parts=parts))


def recalled(entry: CallOutcome) -> tuple[str, ...]:
    """The pages that a call of `recall` brought back."""
    pages = entry.details.get("recalled") if entry.result.name == "recall" else None
    return tuple(page for page in pages if isinstance(page, str)) if isinstance(pages, list) else ()
