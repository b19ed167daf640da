"""A full disk: it is said at once, the next effect is not started, nothing that happened is lost."""

from __future__ import annotations

import errno

import pytest
from mortal import World, install
from small_disk import small_disk

from harness.errors import JournalError
from harness.events import CallIntent, CallOutcome, MessageAdded, SessionEnded
from harness.journal.reading import read, verify
from harness.journal.redact import Redactor
from harness.journal.writer import Journal
from harness.messages import Call, Message, Result, Text, Usage
from sandbox.workspace.quota import exact_unavailable

pytestmark = pytest.mark.skipif(exact_unavailable() is not None, reason="only root can mount a small disk")
SAID = MessageAdded(message=Message(role="user", parts=(Text(text="x" * 700),)))
HAPPENED = CallOutcome(result=Result(call_id="c", name="bash", content="y" * 700), duration_s=0)
ENDED = SessionEnded(status="journal", exit_code=7, reason="", turns=1, usage=Usage(), changes=0)


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path, 8) as made:
        yield made


async def appended(journal):
    """How many entries still go onto the disk."""
    for number in range(100):
        try:
            await journal.append(SAID)
        except JournalError as exc:
            if exc.code != "disk_full":
                raise
            return number
    raise AssertionError("the disk never became full")


@pytest.mark.parametrize("leave", [0, 1, 3])
async def test_what_has_happened_is_written_where_nothing_can_be_begun(disk, leave):
    directory = disk.path / "session"
    journal = Journal.create(directory, redactor=Redactor({}))
    await journal.append(SAID)
    disk.fill(leave=leave)
    written = 1 + await appended(journal)
    assert (verify(directory).lines, verify(directory).torn_bytes) == (written, 0)
    await journal.append(HAPPENED)
    with pytest.raises(JournalError, match="disk full"):
        await journal.append_many([CallIntent(call=Call(id="d", name="bash"), decision="allow"), HAPPENED])
    await journal.append(ENDED)
    journal.close()
    # The reserve is the journal's own, and gone with its room: only where there is room again it goes on.
    disk.fill()
    with pytest.raises(JournalError, match="disk full"):
        Journal.open(directory, redactor=Redactor({}))
    disk.empty()
    journal = Journal.open(directory, redactor=Redactor({}))
    await journal.append(SAID)
    journal.close()
    assert verify(directory).ok
    kinds = [record.entry.kind for record in read(directory)]
    assert kinds == ["message"] * written + ["call_outcome", "session_ended", "message"]
    assert sorted(path.name for path in directory.iterdir()) == ["journal.jsonl", "lock"]


def bash(command):
    # More than fits into what is left of the journal's last page.
    return {"text": "x" * 5000, "calls": [{"name": "bash", "arguments": {"command": command}}]}


REPLIES = [bash("effect one"), bash("effect two"), bash("effect three"), "done"]
ONCE = {"one": 1, "two": 1, "three": 1}


class Filling(dict):
    """The guest's count; with the second effect the disk is full."""

    def __init__(self, disk):
        super().__init__()
        self._disk = disk

    def __setitem__(self, name, count):
        super().__setitem__(name, count)
        if name == "two":
            self._disk.fill()


async def test_the_next_effect_is_not_started_and_the_session_goes_on_when_there_is_room(disk, monkeypatch):
    world = World(disk.path, REPLIES)
    install(monkeypatch, lambda: world)
    world.ran = Filling(disk)
    ended = await world.start()
    assert (ended.status, ended.exit_code) == ("journal", 7)
    assert "disk full" in ended.reason
    assert "free some space" in ended.reason
    assert world.ran == {"one": 1, "two": 1}
    # What was under way has its outcome, and the end says why.
    before = world.records
    assert [record.entry.kind for record in before[-2:]] == ["call_outcome", "session_ended"]
    assert before[-1].entry == ended
    with pytest.raises(JournalError, match="disk full"):
        await world.resume()
    assert (world.records, world.ran) == (before, {"one": 1, "two": 1})
    disk.empty()
    assert (await world.resume()).status == "done"
    assert world.records[: len(before)] == before
    assert world.ran == ONCE
    await world.close()


async def test_after_a_failed_flush_no_effect_is_started(tmp_path, monkeypatch):
    world = World(tmp_path, REPLIES)
    install(monkeypatch, lambda: world)

    def broken(fd):
        if world.ran.get("two"):
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("harness.journal.writer._sync", broken)
    ended = await world.start()
    assert (ended.status, ended.exit_code) == ("journal", 7)
    assert "Input/output error" in ended.reason
    assert world.ran == {"one": 1, "two": 1}
    before = world.records
    monkeypatch.setattr("harness.journal.writer._sync", lambda fd: None)
    assert (await world.resume()).status == "done"
    assert world.records[: len(before)] == before
    assert world.ran == ONCE
    await world.close()
