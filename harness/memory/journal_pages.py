"""Which part of which journal line is which page: the page table's numbers, read off the entries alone.

A message's parts are numbered in their order. After a reply the next numbers belong to the results of its
calls, in the order of the calls, whenever they come.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.events import CallOutcome, Entry, MessageAdded
from harness.memory.pages import Kind, kind_of
from harness.messages import Part


@dataclass(frozen=True)
class Numbered:
    number: int
    kind: Kind
    name: str
    turn: int
    place: int
    """Among its message's parts; RESULT for a call's result, which has an entry of its own."""
    part: Part


RESULT = -1


@dataclass
class Numbering:
    """Feed it the entries in their order. Plain fields, so that it can be kept and gone on with."""

    next: int = 1
    turn: int = 0
    awaited: list[tuple[str, int]] = field(default_factory=list)
    """Calls without a result so far, each with its result's number."""

    def feed(self, entry: Entry) -> list[Numbered]:
        match entry:
            case CallOutcome():
                return self._result(entry)
            case MessageAdded():
                return self._message(entry)
        return []

    def _message(self, entry: MessageAdded) -> list[Numbered]:
        message = entry.message
        self.turn += message.role == "assistant"
        made = []
        for place, part in enumerate(message.parts):
            made.append(Numbered(self.next, *kind_of(message, part), self.turn, place, part))
            self.next += 1
        self.awaited = []
        for call in message.calls:
            self.awaited.append((call.id, self.next))
            self.next += 1
        return made

    def _result(self, entry: CallOutcome) -> list[Numbered]:
        for place, (call_id, number) in enumerate(self.awaited):
            if call_id == entry.result.call_id:
                del self.awaited[place]
                return [Numbered(number, "result", entry.result.name, self.turn, RESULT, entry.result)]
        return []
