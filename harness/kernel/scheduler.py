"""The scheduler: the calls of one message run together where what they touch allows, and report in order.

Reads are shared, writes are exclusive, on a path and all beneath it. A call waits for every earlier call it
conflicts with and for none other, so there is nothing to deadlock on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from harness.syscalls.base import Access

T = TypeVar("T")
Turn = Callable[[], AbstractAsyncContextManager[None]]
"""Entered when it is this work's turn; held while it runs."""


@dataclass(frozen=True)
class Work(Generic[T]):
    access: Access
    run: Callable[[Turn], Awaitable[T]]
    """Enters its turn before it does anything that others could notice."""


def conflict(one: Access, other: Access) -> bool:
    """Whether two calls may not run at the same time."""
    return (
        _overlap(one.writes, other.writes)
        or _overlap(one.writes, other.reads)
        or _overlap(one.reads, other.writes)
    )


async def run_together(work: Sequence[Work[T]], at_once: int) -> list[T]:
    """Run all, at most `at_once` of them in their turn together; results come in the order of `work`.

    The first exception cancels the rest and is raised as it is.
    """
    slots = asyncio.Semaphore(at_once)
    if len(work) == 1:
        return [await work[0].run(lambda: _turn([], slots))]
    ended = [asyncio.Event() for _ in work]

    async def one(index: int) -> T:
        before = [
            ended[earlier] for earlier in range(index) if conflict(work[earlier].access, work[index].access)
        ]
        try:
            return await work[index].run(lambda: _turn(before, slots))
        finally:
            ended[index].set()

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(index)) for index in range(len(work))]
    except BaseExceptionGroup as several:
        raise _first(several) from several
    return [task.result() for task in tasks]


@asynccontextmanager
async def _turn(before: Sequence[asyncio.Event], slots: asyncio.Semaphore) -> AsyncIterator[None]:
    for event in before:
        await event.wait()
    async with slots:
        yield


def _overlap(ones: Sequence[str], others: Sequence[str]) -> bool:
    return any(_within(one, other) or _within(other, one) for one in ones for other in others)


def _within(path: str, above: str) -> bool:
    if path == above:
        return True
    return above.startswith("/") and path.startswith(above.rstrip("/") + "/")


def _first(several: BaseExceptionGroup[BaseException]) -> BaseException:
    first = several.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
