"""The timeline: what of a journal is in force when its session was taken back, also more than once.

The journal only grows, so `Rewound` takes nothing out of it: whoever folds it goes back to the mark and on
from there. Marks that were passed in what was taken back stay, so one may go forward again as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from harness.errors import JournalError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Step(Generic[T]):
    item: T
    before: _Step[T] | None


class Timeline(Generic[T]):
    """Items in their order, with numbered marks to go back to. Everything but `back` is one step."""

    def __init__(self) -> None:
        self._last: _Step[T] | None = None
        self._marks: dict[int, _Step[T] | None] = {}

    def add(self, item: T) -> None:
        self._last = _Step(item, self._last)

    def mark(self, number: int) -> None:
        self._marks[number] = self._last

    def back(self, number: int) -> list[T]:
        """What was in force at that mark, and is again. JournalError for a mark that never was."""
        if number not in self._marks:
            raise JournalError(
                f"the journal goes back to checkpoint {number}, which it never had", code="corrupt"
            )
        self._last = step = self._marks[number]
        items = []
        while step is not None:
            items.append(step.item)
            step = step.before
        return items[::-1]
