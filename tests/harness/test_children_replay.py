"""A recorded session with children is played again: each child from its own journal, whichever ends first."""

from __future__ import annotations

import asyncio
import shutil

import pytest
from boot_double import Started
from family_double import Nursery, free, lines, spawn
from kernel_double import calls

from harness.errors import UsageError
from harness.events import CallOutcome, MessageAdded, SessionStarted
from harness.journal.reading import read
from harness.store import SESSION_ID

NAMES = ("a", "b", "c")


class Turns(Nursery):
    """A nursery whose command `turn NAME` lets the children end in this order, and `say` says something."""

    def __init__(self, started, names, text="the same"):
        super().__init__({"turn": self.turn, "say": self.say})
        self.started, self.names, self.text = started, names, text
        self.before = self.ended()

    def ended(self):
        return sum(isinstance(event, CallOutcome) for event in self.started.events)

    async def turn(self, process):
        while self.ended() < self.before + self.names.index(process.argv[1]):
            await asyncio.sleep(0.01)
        return 0

    async def say(self, process):
        await process.out(self.text)
        return 0


@pytest.fixture
def started(tmp_path):
    made = Started(tmp_path)
    made.machine = Turns(made, NAMES)
    return made


def family(started):
    """What the sessions of the newest run are, by name: the directory, the model's words, results by call."""
    found = {}
    for row in started.sessions:
        entries = [record.entry for record in read(row.directory)]
        first = entries[0]
        assert isinstance(first, SessionStarted)
        said = [
            one.message
            for one in entries
            if isinstance(one, MessageAdded) and one.message.role == "assistant"
        ]
        ended = [one.result for one in entries if isinstance(one, CallOutcome)]
        results = {one.call_id: SESSION_ID.sub("ID", one.content) for one in ended}
        name = first.parent.name if first.parent else ""
        found[name] = (row.directory, said, results, [one.call_id for one in ended])
    return found


def three_and_one_below(started):
    lines(
        started,
        calls(*(spawn(name, children=int(name == "b")) for name in NAMES)),
        ("a", calls(("bash", {"command": "say; turn a"}))),
        ("b", calls(spawn("below"))),
        ("b", calls(("bash", {"command": "turn b"}))),
        ("b/below", calls(("bash", {"command": "say"}))),
        ("b/below", "I was below"),
        ("c", calls(("bash", {"command": "say; turn c"}))),
        *((name, f"I am {name}") for name in NAMES),
        "all done",
    )


async def go(started, **options):
    return await started.run(policy=free(spawn_depth=2), workspace=None, **options)


async def test_a_session_with_children_is_played_again_whichever_of_them_ends_first(started):
    three_and_one_below(started)
    assert (await go(started)).status == "done"
    recorded = family(started)
    started.machine = Turns(started, NAMES[::-1])
    ended = await go(started, model=f"replay:{recorded[''][0]}")
    assert ended.status == "done", ended.reason
    played = family(started)
    assert (recorded[""][3], played[""][3]) == (
        ["call_1", "call_2", "call_3"],
        ["call_3", "call_2", "call_1"],
    )
    assert played.keys() == {"", "a", "b", "b/below", "c"}
    for name, (directory, said, results, _) in played.items():
        assert directory != recorded[name][0]
        assert (said, results) == recorded[name][1:3]


async def test_a_replay_of_the_last_session_is_of_that_one_when_it_is_no_longer_the_last(
    started, monkeypatch
):
    monkeypatch.setenv("USERMODE_HOME", str(started.home))
    lines(started, "done")
    await go(started)
    (recorded,) = started.sessions
    assert (await go(started, model="replay:last")).status == "done"
    assert started.sessions[-1].model == f"replay:{recorded.id}"


async def test_a_child_that_meets_something_else_drifts_and_so_does_its_parent(started):
    three_and_one_below(started)
    await go(started)
    recorded = family(started)
    started.machine = Turns(started, NAMES, "another")
    ended = await go(started, model=f"replay:{recorded[''][0]}")
    assert ended.status == "provider"
    assert "message 3 (tool) differs" in ended.reason
    told = family(started)[""][2]
    for call_id in ("call_1", "call_3"):
        assert "drifted from" in told[call_id]
        assert "another" in told[call_id]


async def test_a_recording_whose_child_is_gone_is_refused_by_name_before_anything_is_made(started):
    three_and_one_below(started)
    await go(started)
    recorded = family(started)
    shutil.rmtree(recorded["b/below"][0])
    before = {row.id for row in started.sessions}
    with pytest.raises(UsageError, match=r"child below, whose journal is gone.*put it back") as caught:
        await go(started, model=f"replay:{recorded[''][0]}")
    assert str(recorded["b/below"][0]) in str(caught.value)
    assert {row.id for row in started.sessions} == before
