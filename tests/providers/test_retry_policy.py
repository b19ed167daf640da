"""Trying again: transient faults only, waits as long as asked, bounded, and a consumer is told what to
discard.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from harness.messages import Message, Text, Usage, user
from harness.provider import Delta, Fault, ProviderError, Reply, Request, Restarted, TextDelta
from harness.providers.retry import RetryPolicy, stream_with_retry

REQUEST = Request(system="", messages=(user("go"),), tools=())
REPLY = Reply(Message(role="assistant", parts=(Text(text="done"),)), Usage(), "end")

DEFAULT = RetryPolicy()


class Moody:
    """A provider whose attempts go as listed: deltas, then perhaps a fault."""

    name, model = "moody", "test"

    def __init__(self, *attempts: list[Delta | ProviderError]) -> None:
        self.attempts = list(attempts)
        self.closed = 0

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        try:
            for item in self.attempts.pop(0):
                await asyncio.sleep(0)
                if isinstance(item, ProviderError):
                    raise item
                yield item
        finally:
            self.closed += 1

    async def aclose(self) -> None:
        return None


class Waits:
    """Stands in for time: records the waits, and what was told before each."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self.told: list[tuple[Fault, int, float]] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    def on_retry(self, error: ProviderError, attempt: int, wait_s: float) -> None:
        self.told.append((error.fault, attempt, wait_s))


def retrying(provider: Moody, waits: Waits, policy: RetryPolicy = DEFAULT):
    return stream_with_retry(provider, REQUEST, waits.on_retry, policy=policy, sleep=waits.sleep)


async def test_a_transient_fault_is_tried_again_and_told():
    provider, waits = Moody([ProviderError("overloaded", "busy")], [TextDelta("done"), REPLY]), Waits()
    assert [delta async for delta in retrying(provider, waits)] == [TextDelta("done"), REPLY]
    assert waits.told == [("overloaded", 2, waits.slept[0])]
    assert provider.closed == 2


async def test_deltas_of_a_broken_stream_are_to_be_discarded():
    provider = Moody(
        [TextDelta("do"), ProviderError("dropped", "cut")],
        [ProviderError("server", "500")],
        [TextDelta("done"), REPLY],
    )
    deltas = [delta async for delta in retrying(provider, Waits())]
    assert deltas == [TextDelta("do"), Restarted(), TextDelta("done"), REPLY]


@pytest.mark.parametrize("fault", ["auth", "request", "context_overflow", "drift"])
async def test_a_fault_that_will_not_pass_is_raised_at_once(fault: Fault):
    provider, waits = Moody([ProviderError(fault, "no")], [REPLY]), Waits()
    with pytest.raises(ProviderError, match="no"):
        [delta async for delta in retrying(provider, waits)]
    assert waits.slept == []


async def test_attempts_are_bounded_and_the_last_fault_is_the_one_raised():
    provider, waits = Moody(*[[ProviderError("server", f"fault {n}")] for n in range(9)]), Waits()
    with pytest.raises(ProviderError, match="fault 2"):
        [delta async for delta in retrying(provider, waits, RetryPolicy(attempts=3))]
    assert len(waits.slept) == 2


async def test_waits_grow_and_stay_under_their_ceiling():
    provider, waits = Moody(*[[ProviderError("server", "x")]] * 7, [REPLY]), Waits()
    policy = RetryPolicy(attempts=8, first_wait_s=1, max_wait_s=10, total_wait_s=1000)
    [delta async for delta in retrying(provider, waits, policy)]
    for wait, least in zip(waits.slept, (1, 2, 4, 8, 10, 10, 10), strict=True):
        assert least <= wait <= min(least + 1, 10)


async def test_the_service_decides_how_long_to_wait_at_least():
    provider, waits = Moody([ProviderError("rate_limit", "later", retry_after_s=42)], [REPLY]), Waits()
    [delta async for delta in retrying(provider, waits)]
    assert 42 <= waits.slept[0] <= 43


async def test_waiting_is_bounded_in_all():
    asked = ProviderError("rate_limit", "come back in an hour", retry_after_s=3600)
    provider, waits = Moody([asked], [REPLY]), Waits()
    with pytest.raises(ProviderError, match="come back in an hour"):
        [delta async for delta in retrying(provider, waits)]
    assert waits.slept == []

    asked = ProviderError("rate_limit", "100 s", retry_after_s=100)
    provider, waits = Moody(*[[asked]] * 5), Waits()
    with pytest.raises(ProviderError, match="100 s"):
        [delta async for delta in retrying(provider, waits)]
    assert len(waits.slept) == 2


async def test_leaving_early_closes_the_provider_and_retries_nothing():
    provider, waits = Moody([TextDelta("a"), TextDelta("b"), REPLY]), Waits()
    async with aclosing(retrying(provider, waits)) as deltas:
        async for _ in deltas:
            break
    assert (provider.closed, waits.slept) == (1, [])


async def test_cancelling_in_a_wait_or_a_stream_cancels():
    for attempts in ([[ProviderError("server", "x")], [REPLY]], [[TextDelta("a"), REPLY]]):
        provider = Moody(*attempts)

        async def consume(provider: Moody = provider) -> None:
            async for delta in stream_with_retry(provider, REQUEST, lambda *_: None):
                if isinstance(delta, TextDelta):
                    await asyncio.sleep(3600)

        task = asyncio.create_task(consume())
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(provider.attempts) == (1 if len(attempts) == 2 else 0)


async def test_what_is_no_provider_error_is_not_hidden():
    class Broken(Moody):
        async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
            raise ZeroDivisionError
            yield REPLY

    with pytest.raises(ZeroDivisionError):
        [delta async for delta in retrying(Broken(), Waits())]
