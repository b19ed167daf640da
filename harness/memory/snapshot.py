"""What a list that only grows held at one moment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import overload

from harness.messages import Message


class Snapshot(Sequence[Message]):
    """A list that only grows, as it was: made in one step, where a copy would touch every message."""

    __slots__ = ("_length", "_of")

    def __init__(self, of: list[Message]) -> None:
        self._of, self._length = of, len(of)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Message]:
        return islice(self._of, self._length)

    @overload
    def __getitem__(self, at: int) -> Message: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[Message, ...]: ...
    def __getitem__(self, at: int | slice) -> Message | tuple[Message, ...]:
        places = range(self._length)[at]
        return self._of[places] if isinstance(places, int) else tuple(self._of[place] for place in places)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    __hash__ = None  # type: ignore[assignment]
