"""A `write` or `edit` that was cut short: the file itself tells what became of it."""

from __future__ import annotations

import pytest
from mortal import World, install

from harness.events import CallIntent, CallOutcome, FileAhead, MessageAdded, SessionStarted, TakenUp
from harness.journal.record import Record
from harness.messages import Call, Message
from harness.recovery.rebuild import Rebuilder
from policies import load
from policies.load import digest

PATH = "/workspace/queue.txt"
EDIT = {"name": "edit", "arguments": {"path": PATH, "edits": [{"old": "start\n", "new": "start\nline\n"}]}}
WRITE = {"name": "write", "arguments": {"path": PATH, "content": "all new\n"}}
NEW = {"name": "write", "arguments": {"path": "/workspace/sub/new", "content": "fresh\n"}}
CASES = {"edit": (EDIT, b"start\nline\nend\n"), "write": (WRITE, b"all new\n"), "new": (NEW, b"fresh\n")}


@pytest.fixture
async def world(tmp_path, monkeypatch):
    made = []

    def make(*calls):
        made.append(World(tmp_path / f"world-{len(made)}", [{"calls": list(calls)}, "done"]))
        return made[-1]

    install(monkeypatch, lambda: made[-1])
    yield make
    for one in made:
        await one.close()


def ended(one):
    entries = [record.entry for record in one.records]
    (found,) = (entry for entry in entries if isinstance(entry, TakenUp))
    results = [entry.result for entry in entries if isinstance(entry, CallOutcome)]
    return [call.fate for call in found.calls], results


def started():
    policy = load("strict")
    return SessionStarted(
        session="s", task="t", model="scripted:x", policy=policy.model_dump(mode="json"),
        policy_digest=digest(policy), image="i", image_digest="d", runtime="runc", workspace=None,
        harness_version="0",
    )  # fmt: skip


def held(one, path):
    return bytes(one.box.tree.get(path).data)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    ("step", "fate"),
    [
        ("before writing file_ahead", "again"),
        ("after writing file_ahead", "again"),
        ("before write_file", "again"),
        ("after write_file", "adopted"),
        ("before writing call_outcome", "adopted"),
    ],
)
async def test_it_is_told_by_the_file_whether_it_was_done(world, case, step, fate):
    call, content = CASES[case]
    one = world(call)
    assert await one.start(step) is None
    assert (await one.resume()).status == "done"
    fates, (result,) = ended(one)
    assert (fates, result.error) == ([fate], None)
    assert held(one, call["arguments"]["path"]) == content


@pytest.mark.parametrize("step", ["before write_file", "after write_file"])
@pytest.mark.parametrize("call", [EDIT, WRITE], ids=["edit", "write"])
async def test_where_somebody_else_wrote_meanwhile_nobody_knows_and_nothing_is_overwritten(world, call, step):
    one = world(call)
    assert await one.start(step) is None
    await one.box.write_file(PATH, b"start\nof another\n")
    await one.resume()
    fates, (result,) = ended(one)
    assert (fates, result.error) == (["unknown"], "unknown")
    assert held(one, PATH) == b"start\nof another\n"


async def test_a_file_that_went_meanwhile_is_not_made_again(world):
    one = world(WRITE)
    assert await one.start("before write_file") is None
    one.box.tree.remove(PATH)
    await one.resume()
    assert ended(one)[0] == ["unknown"]


async def test_of_two_calls_of_one_file_the_later_one_tells_of_the_earlier(world):
    """Its outcome was not written yet when the other had begun; each is done once, and in this order."""
    for step in ("after writing file_ahead", "after write_file", "after writing call_outcome"):
        one = world(WRITE, EDIT | {"arguments": {"path": PATH, "edits": [{"old": "all", "new": "not all"}]}})
        assert await one.start(step) is None
        assert (await one.resume()).status == "done"
        assert [result.error for result in ended(one)[1]] == [None, None]
        assert held(one, PATH) == b"not all new\n"


def test_what_the_next_call_found_counts_and_not_what_is_there_now():
    told = Rebuilder()
    calls = [Call(id=name, name="write", arguments={"path": PATH, "content": name}) for name in "ab"]
    entries = [
        MessageAdded(message=Message(role="assistant", parts=tuple(calls))),
        *(
            CallIntent(call=call, exec_id=f"{2**32 + n:016x}", decision="allow")
            for n, call in enumerate(calls, 1)
        ),
        FileAhead(call_id="a", path=PATH, before="0", after="1"),
        FileAhead(call_id="b", path=PATH, before="1", after="0"),
    ]
    for seq, entry in enumerate((started(), *entries), 1):
        told.feed(Record(seq, "2026-11-22T12:00:00.000000Z", entry, "0" * 64))
    first, second = told.rebuilt().open
    assert (first.found, second.found) == ("1", None)
