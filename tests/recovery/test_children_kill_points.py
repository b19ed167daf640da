"""A session with children, killed at every boundary and taken up again: none is begun twice, none is left.

What their harness had acknowledged stands, what they spent is counted, and what was merged is what was told.
"""

from __future__ import annotations

import random

import pytest
from family import Family, install_family, on_disk
from mortal import worlds

from harness.events import CallOutcome, ChildStarted, MessageAdded, SessionEnded
from harness.journal.lock import locked
from harness.store import Store
from sandbox.workspace.layout import MOUNTPOINT, tree_of

FILES = {"shared.txt": "as it was\n", "other.txt": "other\n", "gone.txt": "old\n"}


def calls(*made):
    return {"calls": [{"name": name, "arguments": arguments} for name, arguments in made]}


def of(child, reply):
    return {"child": child, **(reply if isinstance(reply, dict) else {"text": reply})}


def bash(command):
    return "bash", {"command": command}


def write(path, content):
    return "write", {"path": f"/workspace/{path}", "content": content}


def edit(path, old, new):
    return "edit", {"path": f"/workspace/{path}", "edits": [{"old": old, "new": new}]}


REPLIES = [
    calls(("spawn", {"name": "one", "task": "a"}), ("spawn", {"name": "two", "task": "b"})),
    of("one", calls(edit("shared.txt", "as it was", "one"), write("one.txt", "one\n"))),
    of("one", calls(bash("effect one; rm gone.txt"))),
    of("one", "one is done"),
    of("two", calls(edit("shared.txt", "as it was", "two"), write("two.txt", "two\n"), bash("effect two"))),
    of("two", "two is done"),
    calls(("merge", {"child": "one"})),
    calls(("merge", {"child": "two", "paths": ["two.txt"]}), ("merge", {"child": "two"})),
    "all of it is done",
]
MADE = {
    "one": {"shared.txt": b"one\n", "one.txt": b"one\n", "gone.txt": None},
    "two": {"shared.txt": b"two\n", "two.txt": b"two\n"},
}
"""What each child makes of the workspace."""
ELSEWHERE = ("read_file", "stat", "start", "result", "release")
"""Boundaries that are no others than in a session without children."""
BETWEEN = ("after writing child_started", "after open", "after abandoning")
"""Past these something happens that is no boundary; past the others is before the next."""


NESTED = [
    calls(("spawn", {"name": "one", "task": "a", "children": 1})),
    of("one", calls(("spawn", {"name": "deep", "task": "b"}))),
    of("one/deep", calls(write("deep.txt", "deep\n"))),
    of("one/deep", "deep is done"),
    of("one", calls(("merge", {"child": "deep"}))),
    of("one", "one is done"),
    "all of it is done",
]


@pytest.fixture
async def family(tmp_path, monkeypatch, request):
    made, replies = [], getattr(request, "param", REPLIES)

    def begin(directory):
        made.append(Family(directory, replies, FILES))
        return made[-1]

    install_family(monkeypatch, lambda: made[-1])
    async with worlds(tmp_path, monkeypatch, begin) as make:
        yield make


def entries_of(records, kind):
    return [record.entry for record in records if isinstance(record.entry, kind)]


def replies_in(records):
    return [entry for entry in entries_of(records, MessageAdded) if entry.message.role == "assistant"]


def check(world, before, ended):
    assert ended is not None
    assert ended.status == "done", ended.reason
    journals = world.journals
    check_kept(journals, before)
    check_counted(journals, ended)
    parent = journals[""]
    outcomes = sorted(entries_of(parent, CallOutcome), key=lambda one: int(one.result.call_id[5:]))
    assert [one.result.name for one in outcomes] == ["spawn", "spawn", "merge", "merge", "merge"]
    started = {one.name: one.session for one in entries_of(parent, ChildStarted)}
    # None was begun that had not been announced, and none twice: `journals` found no two of one name.
    assert {name: journals[name][0].entry.session for name in journals if name}.items() <= started.items()
    for name, spawned in zip(("one", "two"), outcomes, strict=False):
        check_spawned(spawned.result, journals.get(name))
    assert all(count == 1 for count in world.ran.values()), world.ran
    store = Store(world.home)
    directories = {name: store.sessions / records[0].entry.session for name, records in journals.items()}
    check_workspace(on_disk(tree_of(directories[""])), outcomes[2:])
    # Nothing is left of the children but what they are remembered by.
    assert world.boxes == {}
    store.sweep(0)
    assert len(store.ids()) == len(journals)
    for name, directory in directories.items():
        assert not locked(directory)
        assert (directory / MOUNTPOINT).exists() is (name == "")


def check_kept(journals, before):
    """No acknowledged entry of any session is lost or changed."""
    for name, records in before.items():
        assert journals[name][: len(records)] == records


def check_counted(journals, ended):
    """What was spent is spent once, whoever spent it and whenever."""
    paid = [reply.usage for records in journals.values() for reply in replies_in(records)]
    assert ended.turns == len(paid)
    assert ended.usage.total == sum(usage.total for usage in paid)


def check_spawned(result, records):
    if result.error == "not_run":
        assert records is None
        return
    last = None if records is None else records[-1].entry
    assert result.error in (None, "unknown")
    if result.error is None:
        assert isinstance(last, SessionEnded)
        assert last.status == "done"
    else:
        assert "the harness ended while this ran" in result.content
    if records is not None:
        # It ended once, whoever wrote that down.
        assert len(entries_of(records, SessionEnded)) == 1
        assert isinstance(last, SessionEnded)
        # Also by a harness that found that end written, and not yet told.
        cut_short = last.status == "killed"
        assert cut_short is ("Not kept: what it did after its last checkpoint" in result.content)
        assert cut_short is ("ended: interrupted" in result.content)


def check_workspace(found, merges):
    """Each file is whole and as it was told: of a merge it can always be told."""
    told = {name: text.encode() for name, text in FILES.items()}
    for merge, child in zip(merges, ("one", "two", "two"), strict=True):
        assert merge.result.error in (None, "conflict", "not_found"), merge
        taken = {name: MADE[child][name] for name in merge.details.get("merged", ())}
        told = {name: data for name, data in (told | taken).items() if data is not None}
    assert found == told, merges


async def test_a_family_that_nobody_kills_is_as_it_should_be(family):
    one = await family("whole")
    check(one, {}, await one.start())
    assert one.ran == {"one": 1, "two": 1}
    journals = one.journals
    assert on_disk(tree_of(Store(one.home).sessions / journals[""][0].entry.session)) == {
        "shared.txt": b"one\n", "other.txt": b"other\n", "one.txt": b"one\n", "two.txt": b"two\n",
    }  # fmt: skip
    last = entries_of(journals[""], CallOutcome)[-1]
    assert last.result.error == "conflict"
    assert list(last.details["left"]) == ["shared.txt"]


@pytest.mark.parametrize("share", range(2))
async def test_killed_at_every_boundary_no_child_is_begun_twice_and_none_is_left(family, share):
    one = await family("whole")
    await one.start()
    trail = list(enumerate(one.life.trail, 1))
    first = one.life.trail.index("before writing child_started")
    points = [
        number
        for number, name in trail[first:]
        if name in BETWEEN or (name.startswith("before") and not name.endswith(ELSEWHERE))
    ]
    assert len(points) > 50, len(points)
    for point in points[share::2]:
        one = await family(f"point-{point}")
        if await one.start(point) is not None:
            continue  # A moment later in this run than in that one.
        before = one.journals
        last = before[""][-1].entry
        check(one, before, last if isinstance(last, SessionEnded) else await one.resume())


async def test_killed_again_while_it_is_taken_up_with_its_containers_or_without(family):
    chance = random.Random(20261124)
    again = 0
    for number in range(16):
        one = await family(f"twice-{number}")
        if await one.start(chance.randrange(25, 150)) is not None:
            continue
        before = one.journals
        if number % 2:
            await one.lose_boxes()
        ended = await one.resume(chance.randrange(1, 30))
        if ended is None:
            again += 1
            check_kept(one.journals, before)
            before, ended = one.journals, await one.resume()
        check(one, before, ended)
    assert again >= 6


@pytest.mark.parametrize("family", [NESTED], indirect=True)
async def test_what_a_childs_child_spent_is_counted_wherever_all_three_are_killed(family):
    one = await family("whole")
    ended = await one.start()
    check_counted(one.journals, ended)
    trail = one.life.trail
    first = trail.index("before writing child_started", trail.index("after writing child_started"))
    points = [
        number for number, name in enumerate(trail[first:], first + 1) if name.startswith("before writ")
    ]
    for point in points[:24:2]:
        one = await family(f"point-{point}")
        if await one.start(point) is not None:
            continue
        ended = await one.resume()
        assert ended.status == "done"
        check_counted(one.journals, ended)
        assert all(isinstance(records[-1].entry, SessionEnded) for records in one.journals.values())
        assert one.boxes == {}
