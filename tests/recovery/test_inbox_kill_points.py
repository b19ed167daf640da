"""What the user says, killed at every boundary: what was acknowledged is read, once, and nothing twice."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest
from mortal import Died, World, install, worlds

from harness.events import MessageAdded, PromptQueued, SessionEnded, TurnDone
from harness.inbox import Inbox
from harness.messages import Result


def bash(command):
    return {"calls": [{"name": "bash", "arguments": {"command": command}}]}


REPLIES = [bash("effect slow-one"), "one is done", bash("effect asked"), "it is done"]
REPLIES += ["so be it"] * 20
AGAIN = "and go on"


class Speaker:
    """A user: what they say, and what they were told was taken."""

    def __init__(self, holder):
        self.taken = []
        self._holder = holder

    async def __call__(self, desk):
        world = self._holder()
        await self.say(desk, "first", "turn")
        await self.seen(world, "slow-one")
        await self.say(desk, "steer a", "request")
        await self.say(desk, "next b", "turn")
        await self.say(desk, "not that", "turn")
        self.taken.remove("not that")  # From here on it is read once, or not at all.
        world.life.step("before dropping")
        assert await desk.drop(desk.inbox.waiting[-1].name, "terminal")
        world.life.step("after dropping")
        await self.seen(world, "asked")
        await self.say(desk, "steer c", "request")

    async def say(self, desk, text, when):
        life = self._holder().life
        life.step(f"before saying {text}")
        await desk.say(text, when, "terminal")
        self.taken.append(text)
        life.step(f"after saying {text}")

    async def seen(self, world, name):
        while name not in world.ran:
            if world.life.dead:
                raise Died
            await asyncio.sleep(0.001)


@pytest.fixture
async def spoken(tmp_path, monkeypatch):
    """A world whose user talks, made anew each time."""

    def begin(directory):
        world = World(directory, REPLIES)
        world.talk = Speaker(lambda: world)
        return world

    async with worlds(tmp_path, monkeypatch, begin) as make:
        yield make


def read_by_the_model(world):
    return Counter(
        record.entry.message.text
        for record in world.records
        if isinstance(record.entry, MessageAdded) and record.entry.message.role == "user"
    )


def check(world, ended, *also):
    """Whatever was acknowledged is in the conversation once; what was not, at most once."""
    assert ended is not None
    assert ended.status == "done", ended.reason
    read = read_by_the_model(world)
    for text in (*world.talk.taken, *also):
        assert read[text] == 1, (text, read)
    assert all(count == 1 for count in read.values()), read
    assert all(count == 1 for count in world.ran.values()), world.ran
    inbox = Inbox()
    for record in world.records:
        inbox.feed(record.entry)
    assert not len(inbox)
    last = [message.text for message in world.requests[-1].messages if message.role == "user"]
    assert Counter(last) == read


async def test_a_talk_that_nobody_kills_is_read_in_the_order_of_its_kinds(spoken):
    one = await spoken("whole")
    check(one, await one.start())
    assert list(read_by_the_model(one)) == ["first", "steer a", "next b", "steer c"]
    turns = [record.entry.status for record in one.records if isinstance(record.entry, TurnDone)]
    assert turns == ["done", "done"]
    assert one.ran == {"slow-one": 1, "asked": 1}
    # Steering did not stop the command that ran meanwhile.
    [result] = [part for part in one.requests[1].messages[2].parts if isinstance(part, Result)]
    assert result.error is None


@pytest.mark.parametrize("share", range(2))
async def test_killed_at_every_boundary_no_prompt_is_lost_and_none_is_read_twice(spoken, share):
    one = await spoken("whole")
    await one.start()
    # Those of the sandbox have a test of their own.
    ours = ("writing", "saying", "dropping", "request", "asking", "open")
    points = [number for number, name in enumerate(one.life.trail, 1) if any(word in name for word in ours)]
    assert len(points) > 60
    for point in points[share::2]:
        one = await spoken(f"point-{point}")
        if await one.start(point) is not None:
            continue  # A moment later in this run than in that one.
        if not one.records:
            assert not one.talk.taken
            continue
        if not isinstance(one.records[-1].entry, SessionEnded):
            check(one, await one.resume(message=AGAIN), AGAIN)


async def test_killed_again_while_it_is_taken_up_the_message_of_the_resume_is_safe(spoken):
    chance = random.Random(20261123)
    again = 0
    for number in range(20):
        one = await spoken(f"twice-{number}")
        if await one.start(chance.randrange(3, 60)) is not None or not one.records:
            continue
        ended = await one.resume(chance.randrange(1, 30), message=AGAIN)
        if ended is None and isinstance(one.records[-1].entry, SessionEnded):
            ended = one.records[-1].entry
        if ended is None:
            again += 1
            # Not with `resumed` alone: what was written with one flush may be there in part.
            entries = [record.entry for record in one.records]
            accepted = any(isinstance(entry, PromptQueued) and entry.text == AGAIN for entry in entries)
            ended = await one.resume(message="" if accepted else AGAIN)
        check(one, ended, AGAIN)
    assert again >= 8


STATES = {
    "before the sandbox": "before open",
    "after the first prompt, before any reply": "before request",
    "a reply that was not written down": "before writing message+call_intent",
    "a call that runs": "after start",
    "a question": "before asking",
    "an answer nobody wrote down": "after asking",
    "a prompt that waits": "after saying next b",
    "between two turns": "after writing turn_ended",
}


@pytest.mark.parametrize("point", STATES.values(), ids=STATES)
async def test_killed_in_any_state_a_session_goes_on_from_there(spoken, point):
    one = await spoken("state")
    assert await one.start(point) is None
    assert point in one.life.trail
    check(one, await one.resume(message=AGAIN), AGAIN)


class Canceller(Speaker):
    """Cancels the turn at the first boundary of a name, says one more thing, and leaves."""

    def __init__(self, holder, point):
        super().__init__(holder)
        self._point = point

    async def __call__(self, desk):
        await self.say(desk, "first", "turn")
        life = self._holder().life
        while self._point not in life.trail:
            await asyncio.sleep(0.001)
        desk.cancel_turn()
        await self.say(desk, "later", "turn")
        while len(desk.inbox) or desk.busy:
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("point", ["before request", "after start", "before asking"])
async def test_a_turn_that_was_cancelled_leaves_the_session_usable(tmp_path, monkeypatch, point):
    replies = [bash("effect asked"), "so be it"] if "asking" in point else REPLIES
    world = World(tmp_path, replies)
    world.talk = Canceller(lambda: world, point)
    install(monkeypatch, lambda: world)
    ended = await world.start()
    # A question that was cancelled before its answer is one without a yes.
    assert ended.status == "done" or (ended.status == "refused" and "asking" in point)
    assert read_by_the_model(world) == {"first": 1, "later": 1}
    await world.close()


async def test_what_waits_when_the_user_leaves_is_read_after_a_resume(tmp_path, monkeypatch):
    world = World(tmp_path, REPLIES)

    async def talk(desk):
        await desk.say("first", "turn", "terminal")
        await desk.say("later", "turn", "terminal")
        while not world.ran:
            await asyncio.sleep(0.001)
        desk.leave()

    world.talk = talk
    install(monkeypatch, lambda: world)
    ended = await world.start()
    assert (ended.status, ended.reason) == ("done", "the user left")
    assert read_by_the_model(world) == {"first": 1}
    assert sum(isinstance(record.entry, PromptQueued) for record in world.records) == 2
    assert (await world.resume()).status == "done"
    assert read_by_the_model(world) == {"first": 1, "later": 1}
    assert all(count == 1 for count in world.ran.values())
    await world.close()
