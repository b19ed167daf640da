"""A turn that is cancelled while a resumed session finds out what became of its calls."""

from __future__ import annotations

import asyncio

import pytest
from boundaries import Life
from mortal import World, install

from harness.boot.resume import ResumeOptions, resume
from harness.events import CallOutcome, TakenUp
from harness.messages import Result
from harness.process.interrupt import Interrupt
from harness.recovery.rebuild import Rebuilder


def bash(*commands):
    return {"calls": [{"name": "bash", "arguments": {"command": command}} for command in commands]}


async def first(desk):
    await desk.say("first", "turn", "terminal")
    await asyncio.sleep(3600)


async def cancelled(world, when):
    """Take it up again; the turn is cancelled before or while its calls are settled."""
    world.lives.append(Life())
    interrupt = Interrupt()

    async def talk(desk):
        while when == "meanwhile" and not desk.calls:
            await asyncio.sleep(0.001)
        desk.cancel_turn()
        while desk.busy:
            await asyncio.sleep(0.001)
        await desk.say("later", "turn", "terminal")
        while len(desk.inbox) or desk.busy:
            await asyncio.sleep(0.001)

    def watch(event):
        if when == "before" and isinstance(event, TakenUp):
            interrupt.cancel_turn()

    options = ResumeOptions("last", talk=talk, **world._given())
    return await resume(options, watch, interrupt, machine=world.machine)


@pytest.mark.parametrize("when", ["before", "meanwhile"])
async def test_every_call_has_its_result_before_the_next_prompt(tmp_path, monkeypatch, when):
    replies = [bash("effect slow-one", "effect second"), "so be it"]
    world = World(tmp_path, replies, talk=first, slow_s=20)
    install(monkeypatch, lambda: world)
    assert await world.start("after start") is None
    assert (await cancelled(world, when)).status == "done"
    # The one that ran was ended, the other one never made.
    assert not await world.box.jobs()
    assert world.ran == {"slow-one": 1}
    errors = [record.entry.result.error for record in world.records if isinstance(record.entry, CallOutcome)]
    assert errors == ["cancelled", "cancelled"]
    # The model is told of both, now and after another resume.
    said = list(world.requests[-1].messages)
    assert [message.role for message in said] == ["user", "assistant", "tool", "user"]
    assert [part.error for part in said[2].parts if isinstance(part, Result)] == errors
    again = Rebuilder()
    for record in world.records:
        again.feed(record)
    assert again.rebuilt().session.messages[:4] == said
    await world.close()
