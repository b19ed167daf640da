"""The scheduler: who may run with whom, and in what order results come."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.kernel.scheduler import Work, conflict, run_together
from harness.syscalls.base import Access


def reads(*paths):
    return Access(reads=paths)


def writes(*paths):
    return Access(writes=paths)


EVERYTHING = writes("/", "jobs")


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (reads("/a"), reads("/a"), False),
        (reads("/a"), writes("/a"), True),
        (writes("/a"), writes("/a"), True),
        (writes("/a"), writes("/b"), False),
        (reads("/a"), writes("/a/b"), True),
        (writes("/a"), reads("/a/b/c"), True),
        (reads("/ab"), writes("/a"), False),
        (reads("/"), writes("/x"), True),
        (EVERYTHING, reads("/x"), True),
        (EVERYTHING, writes("jobs"), True),
        (EVERYTHING, writes("plan"), False),
        (writes("plan"), writes("plan"), True),
        (Access(), EVERYTHING, False),
    ],
)
def test_reads_are_shared_and_writes_exclusive_on_a_path_and_all_beneath_it(one, other, expected):
    assert conflict(one, other) is conflict(other, one) is expected


class Watch:
    """Counts who runs at the same time."""

    def __init__(self):
        self.running: set[int] = set()
        self.together: set[frozenset[int]] = set()
        self.order: list[int] = []

    async def run(self, number, turn, steps=3):
        async with turn():
            self.order.append(number)
            self.running.add(number)
            for _ in range(steps):
                self.together.add(frozenset(self.running))
                await asyncio.sleep(0)
            self.running.remove(number)
        return number

    def work(self, accesses):
        return [Work(access, partial(self.run, number)) for number, access in enumerate(accesses)]


async def test_results_come_in_the_order_of_the_calls():
    watch = Watch()

    async def late(turn):
        async with turn():
            await asyncio.sleep(0.05)
        return "late"

    work = [Work(reads("/a"), late), *watch.work([reads("/b"), reads("/c")])]
    assert await run_together(work, 8) == ["late", 0, 1]


async def test_no_more_run_than_allowed():
    watch = Watch()
    await run_together(watch.work([reads("/a")] * 10), 3)
    assert max(len(group) for group in watch.together) == 3


async def test_an_exclusive_call_runs_alone_and_order_is_kept_around_it():
    watch = Watch()
    await run_together(watch.work([reads("/a"), reads("/b"), EVERYTHING, reads("/a")]), 8)
    assert {group for group in watch.together if 2 in group} == {frozenset({2})}
    assert watch.order.index(2) == 2
    assert frozenset({0, 1}) in watch.together


ACCESS = st.builds(
    Access,
    reads=st.lists(st.sampled_from(["/", "/a", "/a/b", "/c", "jobs"]), max_size=2).map(tuple),
    writes=st.lists(st.sampled_from(["/", "/a", "/a/b", "/c", "jobs"]), max_size=2).map(tuple),
)


@given(st.lists(ACCESS, max_size=7), st.integers(1, 4))
def test_conflicting_calls_never_overlap_and_keep_their_order(accesses, at_once):
    watch = Watch()
    assert asyncio.run(run_together(watch.work(accesses), at_once)) == list(range(len(accesses)))
    for one in range(len(accesses)):
        for other in range(one + 1, len(accesses)):
            if conflict(accesses[one], accesses[other]):
                assert not any({one, other} <= group for group in watch.together)
                assert watch.order.index(one) < watch.order.index(other)


async def test_a_failure_ends_the_others_and_is_raised_as_it_is():
    ended = []

    async def failing(turn):
        async with turn():
            raise ConnectionError("gone")

    async def waiting(turn):
        try:
            async with turn():
                await asyncio.sleep(3600)
        finally:
            ended.append(True)

    with pytest.raises(ConnectionError, match="gone"):
        await run_together([Work(reads("/a"), waiting), Work(reads("/b"), failing)], 8)
    assert ended == [True]
