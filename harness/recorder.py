"""Recording: an entry is written down first and told second, in the form that was written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from harness.events import Entry, Event


class Recorded(Protocol):
    @property
    def entry(self) -> Entry:
        """The entry as it was written: redacted."""


class Writer(Protocol):
    """What the kernel needs of a journal: when an append returns, the entries are on the disk."""

    async def append_many(self, entries: Sequence[Entry]) -> Sequence[Recorded]: ...


@dataclass(frozen=True)
class Recorder:
    journal: Writer
    emit: Callable[[Event], None]
    """Told all that happens; it must neither raise nor wait."""

    async def record(self, *entries: Entry) -> None:
        """JournalError when they could not be written; then nobody was told either."""
        for recorded in await self.journal.append_many(entries):
            self.emit(recorded.entry)
