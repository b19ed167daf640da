"""The timeline: what of a journal is in force when its session was taken back, also more than once.

The journal only grows, so `Rewound` takes nothing out of it: whoever folds it goes back to the mark and on
from there. Marks that were passed in what was taken back stay, so one may go forward again as well.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from harness.errors import JournalError

T = TypeVar("T")


class Timeline(Generic[T]):
    """Items in their order, with numbered marks to go back to. Everything but `back` is one step."""

    def __init__(self) -> None:
        self._items: list[T] = []
        self._marks: dict[int, tuple[list[T], int]] = {}
        """The branch that each was set on, and how much of it came before."""

    def add(self, item: T) -> None:
        self._items.append(item)

    def mark(self, number: int) -> None:
        self._marks[number] = self._items, len(self._items)

    def back(self, number: int) -> list[T]:
        """What was in force at that mark, and is again. JournalError for a mark that never was."""
        if number not in self._marks:
            raise JournalError(
                f"the journal goes back to checkpoint {number}, which it never had", code="corrupt"
            )
        branch, length = self._marks[number]
        # A branch of its own: the one that is left keeps what other marks on it need.
        self._items = branch[:length]
        return self._items.copy()
