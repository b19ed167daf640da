"""A worker (single-thread executor): blocking jobs, one after the other in the order they were handed over.

An executor of one thread does the same with a lock, a condition and two futures for each job, which costs a
third of a short flush.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Worker:
    """Its thread begins with the first job; `close` ends it after the last."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: SimpleQueue[_Job[Any] | None] = SimpleQueue()
        self._thread: Thread | None = None

    async def do(self, work: Callable[[], T], told: Callable[[T], object]) -> T:
        """What `work` returns or raises in the thread, after `told` was told what it returned.

        Cancelled, it still waits for the end, tells, and is cancelled then: a failure is lost.
        """
        if self._thread is None:
            # A daemon, so that a worker that nobody closed holds up no exit.
            self._thread = Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        job = _Job(work, asyncio.get_running_loop())
        self._jobs.put(job)
        cancelled: asyncio.CancelledError | None = None
        while not job.done:
            try:
                await job.woken
            except asyncio.CancelledError as exc:
                cancelled = exc
                job.woken = job.loop.create_future()
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
    """`run` belongs to the thread; everything else to the loop, and so needs no lock."""

    result: T

    def __init__(self, work: Callable[[], T], loop: asyncio.AbstractEventLoop) -> None:
        self._work = work
        self.loop = loop
        self.woken = loop.create_future()
        self.failure: BaseException | None = None
        self.done = False

    def run(self) -> None:
        try:
            self.result = self._work()
        except BaseException as exc:  # noqa: BLE001 - it is raised where the job was handed over
            self.failure = exc
        with contextlib.suppress(RuntimeError):  # The loop is closed: nobody waits any more.
            self.loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self.done = True
        if not self.woken.done():
            self.woken.set_result(None)
