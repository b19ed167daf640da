"""Recording: an entry is written down first and told second, in the form that was written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from harness.events import Entry, Event
from harness.memory.facts import Facts


class Recorded(Protocol):
    @property
    def entry(self) -> Entry:
        """The entry as it was written: redacted."""


class Writer(Protocol):
    """What the kernel needs of a journal: when an append returns, the entries are on the disk."""

    async def append_many(
        self, entries: Sequence[Entry], told: Callable[[Sequence[Recorded]], object]
    ) -> Sequence[Recorded]: ...


@dataclass(frozen=True)
class Recorder:
    journal: Writer
    emit: Callable[[Event], None]
    """Told all that happens; it must neither raise nor wait."""

    facts: Facts = field(default_factory=Facts)
    """Kept up by every entry, whoever records it."""

    async def record(
        self, *entries: Entry, told: int = 0, then: Callable[[], object] = lambda: None
    ) -> tuple[Entry, ...]:
        """The entries as written. JournalError when they could not be; then nobody was told either.

        The first `told` of them were emitted when they happened, and are not again. `then` is called once all
        are written, also where whoever waits for it is cancelled: what it changes is never another than what
        the journal says.
        """

        def tell(written: Sequence[Recorded]) -> None:
            for number, recorded in enumerate(written):
                self.facts.feed(recorded.entry)
                if number >= told:
                    self.emit(recorded.entry)
            then()

        written = await self.journal.append_many(entries, tell)
        return tuple(recorded.entry for recorded in written)
