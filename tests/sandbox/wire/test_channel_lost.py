"""A wire that goes down while somebody waits for an answer."""

from __future__ import annotations

import asyncio

import pytest

from sandbox.errors import SandboxGone
from sandbox.wire.attach import Attachment
from sandbox.wire.channel import Channel
from sandbox.wire.frames import Request


class Deaf(Attachment):
    """Takes what is sent and never answers."""

    def write(self, data: bytes) -> None:
        pass

    def close(self) -> None:
        pass


async def test_who_waits_for_an_answer_is_told_that_the_sandbox_is_gone() -> None:
    attachment = Deaf()
    channel = Channel(attachment)
    waiting = [asyncio.create_task(channel.ask(Request.PING)) for _ in range(3)]
    await asyncio.sleep(0)
    attachment.closed("its container has ended")
    for one in waiting:
        with pytest.raises(SandboxGone, match="its container has ended"):
            await one
    with pytest.raises(SandboxGone):
        await channel.ask(Request.PING)
