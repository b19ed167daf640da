"""What the tests of all providers share: a request, and how to ask it."""

from __future__ import annotations

import pytest

from harness.messages import Message, user
from harness.provider import Delta, Provider, ProviderError, Reply, Request, ToolSpec
from harness.providers.wire import Clocks

BASH = ToolSpec("bash", "Run a command.", {"type": "object", "properties": {"command": {"type": "string"}}})
READ = ToolSpec("read", "Read a file.", {"type": "object", "properties": {"path": {"type": "string"}}})
HASTY = Clocks(connect_s=2, first_s=5, idle_s=5, reply_s=30, trailer_s=0.2)
KEY = "sk-secret-key-of-the-test"


def ask(*messages: Message, system: str = "be brief", tools: tuple[ToolSpec, ...] = (BASH, READ)) -> Request:
    return Request(system=system, messages=messages or (user("go"),), tools=tools, max_output_tokens=1000)


async def deltas_of(provider: Provider, request: Request | None = None) -> list[Delta]:
    return [delta async for delta in provider.stream(request or ask())]


async def reply_of(provider: Provider, request: Request | None = None) -> Reply:
    deltas = await deltas_of(provider, request)
    assert [isinstance(delta, Reply) for delta in deltas] == [False] * (len(deltas) - 1) + [True]
    reply = deltas[-1]
    assert isinstance(reply, Reply)
    return reply


async def fault_of(provider: Provider, request: Request | None = None) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await deltas_of(provider, request)
    assert "\n" not in str(caught.value)
    assert KEY not in str(caught.value)
    return caught.value
