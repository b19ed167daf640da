"""A session killed at every boundary there is, and taken up again: nothing lost, nothing done twice."""

from __future__ import annotations

import itertools
import random
import re

import pytest
from downloads import BODY, check_downloads, mirrored
from mortal import SLOW_S, TASK, World, worlds

from harness.events import (
    CallIntent,
    CallOutcome,
    EgressClosed,
    EgressDecided,
    MessageAdded,
    Notice,
    SessionEnded,
)
from harness.messages import Result


def calls(*made):
    return {"calls": [{"name": name, "arguments": arguments} for name, arguments in made]}


def bash(command, **more):
    return ("bash", {"command": command, **more})


REPLIES = [
    calls(("read", {"path": "queue.txt"}), ("grep", {"pattern": "start"}), ("glob", {"pattern": "*"})),
    calls(("plan", {"steps": [{"step": "mend", "status": "in_progress"}]})),
    calls(("edit", {"path": "queue.txt", "edits": [{"old": "start\n", "new": "start\nline\n"}]})),
    calls(bash("effect one"), bash("effect two; cd /tmp")),
    calls(bash("effect slow-long")),
    calls(("job", {"action": "list"}), ("job", {"action": "poll", "job": "job-1", "wait_s": 1})),
    calls(bash("effect asked")),
    calls(bash("fetch packages")),
    calls(
        ("write", {"path": "/workspace/a", "content": "a\n"}),
        ("write", {"path": "/workspace/b", "content": "b\n"}),
    ),
    calls(("read", {"path": "/workspace/a"}), bash("effect three", cwd="/workspace"), ("nonsense", {})),
    calls(bash("effect four"), bash("effect five")),
    calls(("edit", {"path": "/workspace/notes", "edits": [{"old": "nothing", "new": "nothing much"}]})),
    "all of it is done",
]


WHOLE = "whole"
"""The world in which nobody is killed."""
PATIENT_S = 1.0
"""What is slow there, so that nothing else becomes a job, however busy the machine is."""
DOWNLOADS = {
    "before writing egress", "after writing egress", "before dialling", "after dialling",
    "before outside send", "after outside receive", "before inside send", "after inside send",
    "before writing egress_closed", "after writing egress_closed",
}  # fmt: skip
"""Among the boundaries: those of the gate, while it carries."""


@pytest.fixture(scope="module")
def mirror():
    with mirrored() as serving:
        yield serving


@pytest.fixture
async def world(tmp_path, monkeypatch, mirror):
    def begin(directory):
        return World(
            directory, REPLIES, mirror=mirror, slow_s=PATIENT_S if directory.name == WHOLE else SLOW_S
        )

    async with worlds(tmp_path, monkeypatch, begin) as make:
        yield make


async def killed_once(world, point):
    """Die at this boundary, then go on. None when the session ended before it came to it."""
    ended = await world.start(point)
    if ended is not None:
        return None
    before = world.records
    if not before:
        # Nothing was ever acknowledged: there is no session, and nothing happened.
        assert (world.ran, world.asked) == ({}, 0)
        return world
    check_downloads(world.dialled, world.asked, before)
    last = before[-1].entry
    # A harness that died with its last word written left nothing to do.
    check(world, before, last if isinstance(last, SessionEnded) else await world.resume())
    return world


def check(world, before, ended):
    assert ended is not None
    assert ended.status == "done", ended.reason
    records = world.records
    # No acknowledged entry is lost, and none is changed.
    assert records[: len(before)] == before
    entries = [record.entry for record in records]
    outcomes = [entry for entry in entries if isinstance(entry, CallOutcome)]
    # Each call has exactly one outcome, in the journal and for the model.
    asked = [call for entry in entries if isinstance(entry, MessageAdded) for call in entry.message.calls]
    assert sorted(one.result.call_id for one in outcomes) == sorted(call.id for call in asked)
    messages = world.requests[-1].messages
    assert messages[0].text == TASK
    assert [message.text for message in messages if message.role == "user"] == [TASK]
    for message, after in itertools.pairwise(messages):
        results = [part.call_id for part in after.parts if isinstance(part, Result)]
        assert results == [call.id for call in message.calls]
    assert len([message for message in messages if message.role == "assistant"]) == len(REPLIES) - 1
    # No effect happened twice, by the guest's own count; one that is missing was said to be missing.
    assert all(count == 1 for count in world.ran.values()), world.ran
    said = {one.result.call_id: one.result for one in outcomes}
    runs = {one.result.call_id for one in outcomes if one.details.get("running")}
    for call in asked:
        command = str(call.arguments.get("command", ""))
        for name in re.findall(r"(?:effect|fetch) ([\w-]+)", command):
            missing = said[call.id].error in ("not_run", "unknown") or call.id in runs
            assert missing or world.ran.get(name) == 1, (name, said[call.id])
            assert said[call.id].error != "not_run" or name not in world.ran, name
    check_downloads(world.dialled, world.asked, records)
    lines = bytes(world.box.tree.get("/workspace/queue.txt").data).decode().count("line")
    edits = [said[call.id] for call in asked if call.name == "edit"]
    # Of a file it can always be told, while nobody else writes it.
    assert (lines, [one.error for one in edits]) == (1, [None, None])
    for call in asked:
        if call.name == "write":
            assert said[call.id].error is None
            assert world.box.tree.get(call.arguments["path"]).data == call.arguments["content"].encode()


async def test_a_session_that_nobody_kills_is_as_it_should_be(world):
    one = await world(WHOLE)
    check(one, [], await one.start())
    effects = ("one", "two", "slow-long", "asked", "packages", "three", "four", "five")
    assert one.ran == dict.fromkeys(effects, 1)
    decided, closed = (record.entry for record in one.records if record.entry.kind.startswith("egress"))
    assert isinstance(decided, EgressDecided)
    assert isinstance(closed, EgressClosed)
    assert (decided.decision, decided.path, one.asked) == ("allow", one.path, 1)
    assert closed.why == "done"
    assert closed.bytes_in > len(BODY)
    assert set(one.life.trail) >= DOWNLOADS


@pytest.mark.parametrize("share", range(8))
async def test_killed_at_every_boundary_it_loses_nothing_and_repeats_nothing(world, share):
    points = 0
    while await killed_once(await world(f"point-{points}"), 8 * points + share + 1) is not None:
        points += 1
    # Eight shares of at least 25 boundaries: 200 and more.
    assert points >= 25


async def test_what_there_is_of_a_write_that_was_cut_short_is_cut_off_and_told(world):
    one = await killed_once(await world("torn"), "before writing call_outcome")
    assert one is not None
    told = [record.entry for record in one.records if isinstance(record.entry, Notice)]
    assert [notice.code for notice in told] == ["torn"]


async def test_killed_again_while_it_is_taken_up_it_still_loses_nothing(world):
    chance = random.Random(20261122)
    again = 0
    for number in range(24):
        one = await world(f"twice-{number}")
        if await one.start(chance.randrange(2, 260)) is not None or not one.records:
            continue
        before = one.records
        ended = await one.resume(chance.randrange(1, 40))
        if ended is None:
            again += 1
            assert one.records[: len(before)] == before
            before, ended = one.records, await one.resume()
        check(one, before, ended)
    assert again >= 8


async def test_an_intent_is_never_followed_by_a_second_effect_under_another_id(world):
    one = await world("ids")
    await one.start()
    intents = [record.entry.exec_id for record in one.records if isinstance(record.entry, CallIntent)]
    known = [exec_id for exec_id in intents if exec_id is not None]
    assert len(known) == len(set(known))
    assert isinstance(one.records[-1].entry, SessionEnded)
