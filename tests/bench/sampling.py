"""Sampling: contenders take turns, so that the drift of a shared machine falls on all of them alike.

A round is a few samples of A, then a few of B, and so on; a ratio is taken within each round and the median
of those is what is told. One round before the first is thrown away.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

Unit = Literal["s", "B", "1/s", "x"]
"""Seconds, bytes, a rate, a share."""

SETTLE_S = 0.05
"""Between two contenders: what one leaves behind (an exec's cleanup in the engine) is not the next one's."""


@dataclass(frozen=True)
class Series:
    """What one contender took, round by round."""

    name: str
    rounds: tuple[tuple[float, ...], ...]
    unit: Unit = "s"

    @property
    def samples(self) -> list[float]:
        return sorted(sample for one in self.rounds for sample in one)

    def quantile(self, share: float) -> float:
        """Linear between the two nearest samples."""
        return quantile(self.samples, share)

    @property
    def median(self) -> float:
        return self.quantile(0.5)


@dataclass(frozen=True)
class Contender:
    name: str
    once: Callable[[], Awaitable[float]]
    """Takes one sample; it times itself, so that what is not measured can be done around it."""
    each: int = 1
    """Samples in a round: more of what is quick."""
    unit: Unit = "s"


def quantile(ordered: Sequence[float], share: float) -> float:
    place = (len(ordered) - 1) * share
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def timed(work: Callable[[], Awaitable[object]]) -> Callable[[], Awaitable[float]]:
    """A sample is the wall clock of the whole call, in seconds."""

    async def once() -> float:
        started = time.perf_counter()
        await work()
        return time.perf_counter() - started

    return once


def blocking(work: Callable[[], object]) -> Callable[[], Awaitable[float]]:
    """As `timed`, for a peer that blocks. It is called on the loop's own thread: no hop is charged to it."""

    async def once() -> float:
        started = time.perf_counter()
        work()
        return time.perf_counter() - started

    return once


async def interleaved(rounds: int, *contenders: Contender) -> list[Series]:
    """A B A B …; a Series for each, in the order given."""
    taken: list[list[tuple[float, ...]]] = [[] for _ in contenders]
    for number in range(-1, rounds):
        for contender, rows in zip(contenders, taken, strict=True):
            await asyncio.sleep(SETTLE_S)
            samples = [await contender.once() for _ in range(contender.each)]
            if number >= 0:
                rows.append(tuple(samples))
    return [Series(one.name, tuple(rows), one.unit) for one, rows in zip(contenders, taken, strict=True)]


def single(name: str, samples: Sequence[float], unit: Unit = "s") -> Series:
    """Of samples that were not taken in rounds."""
    return Series(name, (tuple(samples),), unit)
