"""The worker: blocking jobs in one thread, in order, whatever becomes of those who wait for them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

from harness.journal.worker import Worker


@pytest.fixture
def worker() -> Iterator[Worker]:
    one = Worker("test")
    yield one
    one.close()


def unheard(result: object) -> None:
    """For whoever has nothing to tell."""


async def test_jobs_are_done_one_by_one_in_the_order_they_came(worker):
    done: list[tuple[int, int]] = []

    def job(number: int) -> int:
        done.append((number, threading.get_ident()))
        return number

    results = await asyncio.gather(*(worker.do(lambda n=n: job(n), unheard) for n in range(50)))
    assert results == list(range(50)) == [number for number, _ in done]
    assert len({thread for _, thread in done}) == 1
    assert done[0][1] != threading.get_ident()


async def test_what_was_done_first_is_told_first_also_when_the_next_is_waited_for(worker, monkeypatch):
    monkeypatch.setattr("harness.journal.worker.PATIENCE_S", 0.2)
    told: list[str] = []

    def slow() -> str:
        time.sleep(0.3)  # longer than the loop waits for it, and not as long as it would wait for the next
        return "first"

    await asyncio.gather(worker.do(slow, told.append), worker.do(lambda: "second", told.append))
    assert told == ["first", "second"]


async def test_a_failure_is_raised_where_the_job_came_from_and_the_next_is_done(worker):
    told: list[object] = []

    def broken() -> None:
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        await worker.do(broken, told.append)
    assert told == []
    assert await worker.do(lambda: "on", told.append) == "on"
    assert told == ["on"]


@pytest.mark.parametrize("times", [1, 3])
async def test_a_cancelled_wait_ends_with_the_job_and_still_tells(worker, times):
    go, told = threading.Event(), list[str]()

    def slow() -> str:
        assert go.wait(10)
        return "written"

    waiting = asyncio.create_task(worker.do(slow, told.append))
    for _ in range(times):
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.sleep(0)
    assert not waiting.done()
    assert told == []
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert told == ["written"]


async def test_close_waits_for_what_is_being_done():
    worker, begun, done = Worker("test"), threading.Event(), list[str]()

    def job() -> None:
        begun.set()
        threading.Event().wait(0.05)
        done.append("yes")

    waiting = asyncio.create_task(worker.do(job, unheard))
    assert await asyncio.to_thread(begun.wait, 10)
    await asyncio.to_thread(worker.close)
    assert done == ["yes"]
    await waiting
    worker.close()


def test_a_loop_that_is_gone_holds_up_nobody():
    worker, go = Worker("test"), threading.Event()

    async def leave() -> None:
        asyncio.get_running_loop().call_soon(asyncio.get_running_loop().stop)
        await worker.do(lambda: go.wait(10), unheard)

    loop = asyncio.new_event_loop()
    waiting = loop.create_task(leave())
    loop.run_forever()
    loop.close()
    assert not waiting.done()
    go.set()
    worker.close()
    assert asyncio.run(_one(Worker("another"))) == "done"


async def _one(worker: Worker) -> str:
    try:
        return await worker.do(lambda: "done", unheard)
    finally:
        worker.close()
