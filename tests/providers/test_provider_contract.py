"""The provider contract, kept by all five: one Reply, last; typed errors; nothing left behind when one leaves
early.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

import pytest
from asking import ask, reply_of
from services import WIRED
from wire_server import Answer, WireServer, wire_server

from harness.events import MessageAdded
from harness.messages import Message, Text, user
from harness.provider import Provider, ProviderError, Reply, Request, Restarted, TextDelta
from harness.providers.replay import ReplayProvider
from harness.providers.retry import stream_with_retry
from harness.providers.scripted import ScriptedProvider


@dataclass
class Case:
    provider: Provider
    server: WireServer | None
    """Of a provider that asks one; it answers every request alike."""


def recorded() -> list[MessageAdded]:
    said = Message(role="assistant", parts=(Text(text="Hello"),))
    return [MessageAdded(message=user("go")), MessageAdded(message=said, stop="end")]


@asynccontextmanager
async def opened(name: str, ending: str = "whole") -> AsyncIterator[Case]:
    if name in WIRED:
        wired = WIRED[name]
        chunks = wired.hello if ending == "whole" else wired.hello[: wired.begun]
        async with wire_server(*[Answer(chunks, ending=ending)] * 8) as server:
            provider = wired.open(server.url)
            try:
                yield Case(provider, server)
            finally:
                await provider.aclose()
        return
    provider = ScriptedProvider(["Hello"]) if name == "scripted" else ReplayProvider(recorded())
    yield Case(provider, None)
    await provider.aclose()


every_provider = pytest.mark.parametrize("name", [*WIRED, "scripted", "replay"])


@every_provider
async def test_a_stream_is_deltas_and_then_one_reply_that_says_the_same(name):
    async with opened(name) as case:
        deltas = [delta async for delta in case.provider.stream(ask())]
    assert [type(delta) for delta in deltas[:-1]] == [TextDelta] * (len(deltas) - 1)
    assert isinstance(deltas[-1], Reply)
    assert "".join(delta.text for delta in deltas[:-1]) == deltas[-1].message.text
    assert deltas[-1].message.role == "assistant"


@every_provider
async def test_the_same_request_gets_the_same_reply_also_at_the_same_time(name):
    async with opened(name) as case:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(reply_of(case.provider)) for _ in range(4)]
        assert len({task.result().message.model_dump_json() for task in tasks}) == 1


@every_provider
async def test_leaving_in_the_middle_leaves_no_connection_and_no_task(name):
    async with opened(name, ending="open") as case:
        before = asyncio.all_tasks() if case.server is None else set()
        async with aclosing(case.provider.stream(ask())) as stream:
            assert isinstance(await anext(stream), TextDelta)
        if case.server is not None:
            await case.server.closed()
        gc.collect()
        assert not before or asyncio.all_tasks() == before


@every_provider
async def test_cancelling_in_the_middle_leaves_no_connection(name):
    async with opened(name, ending="open") as case:
        said = asyncio.Event()

        async def consume() -> None:
            async for _ in case.provider.stream(ask()):
                said.set()
                await asyncio.sleep(0)
            await asyncio.sleep(3600)  # Those that ask no service are done long before they can be cancelled.

        task = asyncio.create_task(consume())
        await said.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        if case.server is not None:
            await case.server.closed()


@every_provider
async def test_a_conversation_beyond_what_it_can_answer_is_a_provider_error_and_nothing_else(name):
    said = Message(role="assistant", parts=(Text(text="Hello"),))
    async with opened(name, ending="cut") as case:
        with pytest.raises(ProviderError) as caught:
            await reply_of(case.provider, ask(user("go"), said, user("more")))
    assert caught.value.exit_code == 5


@pytest.mark.parametrize("name", WIRED)
async def test_connections_are_used_again(name):
    async with opened(name) as case:
        for _ in range(3):
            await reply_of(case.provider)
        assert case.server is not None
        assert case.server.connections == 1


@pytest.mark.parametrize("name", WIRED)
async def test_a_broken_stream_is_asked_for_again_and_told_to_discard(name):
    wired = WIRED[name]
    broken = Answer(wired.hello[: wired.begun], ending="cut")

    async def at_once(_: float) -> None:
        return None

    async with wire_server(broken, Answer(wired.hello)) as server:
        provider = wired.open(server.url)
        deltas = [delta async for delta in stream_with_retry(provider, ask(), lambda *_: None, sleep=at_once)]
        await provider.aclose()
    restarted = deltas.index(Restarted())
    assert deltas[:restarted] == [TextDelta("Hel")]
    assert isinstance(deltas[-1], Reply)
    assert server.asked[0].body == server.asked[1].body


@every_provider
async def test_closing_twice_and_closing_unused_are_fine(name):
    async with opened(name) as case:
        await case.provider.aclose()
        await reply_of(case.provider, Request(system="", messages=(user("go"),), tools=()))
        await case.provider.aclose()
        await case.provider.aclose()
