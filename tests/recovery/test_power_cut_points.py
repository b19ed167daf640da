"""A session killed at every boundary together with its container: it goes on over its workspace."""

from __future__ import annotations

import pytest
from family import Family, install_family, on_disk
from mortal import worlds

from harness.events import CallOutcome, MessageAdded, SessionEnded, SessionStarted, TakenUp
from harness.messages import Result
from harness.store import Store
from sandbox.workspace.layout import tree_of

FILES = {"queue.txt": "start\n", "notes": "old\n"}


def calls(*made):
    return {"calls": [{"name": name, "arguments": arguments} for name, arguments in made]}


def bash(command):
    return "bash", {"command": command}


def edit(path, old, new):
    return "edit", {"path": path, "edits": [{"old": old, "new": new}]}


REPLIES = [
    calls(("read", {"path": "queue.txt"}), edit("queue.txt", "start\n", "start\nline\n")),
    calls(bash("effect one"), ("write", {"path": "made/a", "content": "a\n"})),
    calls(bash("effect slow-long")),
    calls(("job", {"action": "poll", "job": "job-1", "wait_s": 1})),
    calls(bash("rm notes; effect two"), edit("queue.txt", "line\n", "line\nlast\n")),
    "all of it is done",
]
LEFT = {"queue.txt": b"start\nline\nlast\n", "made/a": b"a\n"}
TIMES = {None: (1,), "unknown": (0, 1), "not_run": (0,)}
"""How often a command may have run, by what is told of it."""
QUIET = ("read_file", "stat", "release", "progress", "request")
"""Nothing has happened since the boundary before."""


@pytest.fixture
async def world(tmp_path, monkeypatch):
    made = []

    def begin(directory):
        made.append(Family(directory, REPLIES, FILES))
        return made[-1]

    install_family(monkeypatch, lambda: made[-1])
    async with worlds(tmp_path, monkeypatch, begin) as make:
        yield make


def check(world, before, ended):
    assert ended is not None
    assert ended.status == "done", ended.reason
    records = world.journals[""]
    assert records[: len(before)] == before
    entries = [record.entry for record in records]
    outcomes = {one.result.call_id: one for one in entries if isinstance(one, CallOutcome)}
    asked = [call for one in entries if isinstance(one, MessageAdded) for call in one.message.calls]
    assert sorted(outcomes) == sorted(call.id for call in asked)
    assert sum(isinstance(one, CallOutcome) for one in entries) == len(asked)
    shown = [part for message in world.requests[-1].messages for part in message.parts]
    assert [part.call_id for part in shown if isinstance(part, Result)] == [call.id for call in asked]
    # Of a file it can always be told; of a command only what was heard of it, and it is never run again.
    for call in asked:
        error = outcomes[call.id].result.error
        if call.name in ("read", "write", "edit"):
            assert error is None, outcomes[call.id]
        if call.name == "bash":
            times = world.ran.get(call.arguments["command"].split()[-1], 0)
            assert times in TIMES[error], (outcomes[call.id], times)
            assert error != "unknown" or "its sandbox is gone" in outcomes[call.id].result.content
    assert isinstance(entries[0], SessionStarted)
    found = on_disk(tree_of(Store(world.home).sessions / entries[0].session))
    removing = next(call for call in asked if "rm notes" in str(call.arguments))
    assert "notes" not in found or outcomes[removing.id].result.error is not None
    found.pop("notes", None)
    assert found == LEFT
    assert world.boxes == {}


async def test_killed_with_its_container_at_every_boundary_it_repeats_nothing_and_says_what_nobody_knows(
    world,
):
    one = await world("whole")
    check(one, [], await one.start())
    points = [
        number
        for number, name in enumerate(one.life.trail, 1)
        if name in ("after start", "after write_file")
        or (name.startswith("before") and not name.endswith(QUIET))
    ]
    unknown = 0
    for point in points:
        one = await world(f"point-{point}")
        if await one.start(point) is not None or not (before := one.journals.get("", [])):
            continue
        await one.lose_boxes()
        last = before[-1].entry
        check(one, before, last if isinstance(last, SessionEnded) else await one.resume())
        entries = [record.entry for record in one.journals[""]]
        unknown += any(one.result.error == "unknown" for one in entries if isinstance(one, CallOutcome))
    assert len(points) > 35
    assert unknown >= 3


@pytest.mark.parametrize(
    "point", ["before writing taken_up", "before writing call_outcome", "before writing message"]
)
async def test_killed_again_in_its_new_container_it_still_knows_that_the_first_is_gone(world, point):
    one = await world("again")
    assert await one.start("after result") is None
    before = one.journals[""]
    await one.lose_boxes()
    assert await one.resume(point) is None
    check(one, before, await one.resume())
    entries = [record.entry for record in one.journals[""]]
    assert [entry.sandbox for entry in entries if isinstance(entry, TakenUp)][-1] == "attached"
    told = [entry.result.error for entry in entries if isinstance(entry, CallOutcome)]
    assert one.ran["one"] == 1
    assert told.count("unknown") == 1
    heard = [message.text for message in one.requests[-1].messages if message.role == "user"]
    assert sum("its container is gone" in text for text in heard) == 1
