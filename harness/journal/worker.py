"""A worker (single-thread executor): blocking jobs, one after the other in the order they were handed over.

An executor of one thread does the same with a lock, a condition and two futures for each job, and wakes the
loop through its selector: together more than a short flush takes. A thread that the loop waits for a moment
costs next to nothing, and a disk that stalls still stalls nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any, Generic, TypeVar

T = TypeVar("T")

PATIENCE_S = 0.0005
"""How long the loop stands still for a job, at most, if the one before took no longer."""


class Worker:
    """Its thread begins with the first job; `close` ends it after the last."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: SimpleQueue[_Job[Any] | None] = SimpleQueue()
        self._thread: Thread | None = None
        self._soon = True
        self._awaited = 0
        """Jobs whose end the loop has still to be told of."""

    async def do(self, work: Callable[[], T], told: Callable[[T], object]) -> T:
        """What `work` returns or raises in the thread, after `told` was told what it returned.

        Cancelled, it still waits for the end, tells, and is cancelled then: a failure is lost.
        """
        if self._thread is None:
            # A daemon, so that a worker that nobody closed holds up no exit.
            self._thread = Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        job = _Job(work)
        self._jobs.put(job)
        # Not past one that waits: what was done first is told first.
        if self._soon and not self._awaited and job.ended_within(PATIENCE_S):
            cancelled = None
        else:
            self._awaited += 1
            cancelled = await job.end()
            self._awaited -= 1
        self._soon = job.took_s < PATIENCE_S
        if job.failure is None:
            told(job.result)
        if cancelled is not None:
            raise cancelled
        if job.failure is not None:
            raise job.failure
        return job.result

    def close(self) -> None:
        """Wait for what is being done. Idempotent; no job may be handed over afterwards. Blocks."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job.run()


class _Job(Generic[T]):
    """`run` belongs to the thread; everything else to the loop."""

    result: T

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._running = Lock()
        self._running.acquire()
        self._wake: Callable[[], object] | None = None
        self.failure: BaseException | None = None
        self.took_s = 0.0

    def run(self) -> None:
        began = time.monotonic()
        try:
            self.result = self._work()
        except BaseException as exc:  # noqa: BLE001 - it is raised where the job was handed over
            self.failure = exc
        self.took_s = time.monotonic() - began
        self._running.release()
        # In this order: `end` leaves the one and then looks at the other.
        if self._wake is not None:
            self._wake()

    def ended_within(self, seconds: float) -> bool:
        """Whether it has ended by then. Blocks the loop until it has."""
        return self._running.acquire(timeout=seconds)

    async def end(self) -> asyncio.CancelledError | None:
        """Returns when it has ended, with the cancellation that came meanwhile."""
        loop, cancelled = asyncio.get_running_loop(), None
        while True:
            woken = loop.create_future()
            self._wake = partial(_wake, loop, woken)
            if self._running.acquire(blocking=False):
                return cancelled
            try:
                await woken
            except asyncio.CancelledError as exc:
                cancelled = exc


def _wake(loop: asyncio.AbstractEventLoop, waiting: asyncio.Future[None]) -> None:
    with contextlib.suppress(RuntimeError):  # The loop is closed: nobody waits any more.
        loop.call_soon_threadsafe(_set, waiting)


def _set(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)
