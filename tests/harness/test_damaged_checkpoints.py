"""A store of checkpoints that is not what it was: the session goes on, and there is a way back and on."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import test_rewind
from test_rewind import POLICY, Past

from harness.errors import UsageError
from harness.events import Checkpointed, Entry
from harness.journal.reading import read
from harness.journal.writer import Journal
from harness.kernel.checkpointing import checkpointing
from harness.recovery.opening import opened
from sandbox.checkpoints.errors import CheckpointError
from sandbox.checkpoints.rewind import MARK, unfinished
from sandbox.checkpoints.store import Bounds, Store, Writer
from tests.sandbox.checkpoints.tree_double import Tree, picture

past = test_rewind.past


async def kept(past: Past, turns: int = 1) -> list[Entry]:
    """What a resumed session's checkpointer has to tell after so many turns."""
    journal, rebuilt = opened(past.directory)
    journal.close()
    told: list[Entry] = []
    async with checkpointing(past.directory, POLICY.limits, rebuilt.checkpoints) as checkpoints:
        assert checkpoints is not None
        for _ in range(turns):
            checkpoints.begin(unsettled=False)
            told += await checkpoints.finished()
    return told


def untold(past: Past) -> None:
    """A harness that was killed between its checkpoint and the journal's entry of it."""
    (past.tree / "a.txt").write_text("precious\n")
    with Writer(past.directory, Bounds(100, 100)) as writer:
        taken = writer.take()
        assert taken is not None
        assert taken.number == 4


async def test_a_checkpoint_that_the_journal_lacks_is_told_by_the_resume(past):
    untold(past)
    (entry,) = await kept(past, turns=2)
    assert isinstance(entry, Checkpointed)
    assert entry.number == 4


async def test_so_it_is_where_something_went_on_writing(past):
    untold(past)
    (past.tree / "a.txt").write_text("later\n")
    assert [entry.number for entry in await kept(past, turns=2)] == [4, 5]


async def test_what_the_journal_knows_is_not_told_twice(past):
    assert await kept(past, turns=2) == []


def test_a_checkpoint_that_the_journal_lacks_can_be_had_again_after_going_back(past):
    untold(past)
    past.rewind(1)
    assert [one.entry.number for one in read(past.directory) if isinstance(one.entry, Checkpointed)][-1] == 4
    past.rewind(4)
    assert (past.tree / "a.txt").read_text() == "precious\n"


def _truncated(store: Path) -> None:
    pack = next(store.glob("*.pack"))
    os.truncate(pack, pack.stat().st_size - 5)


def _emptied(store: Path) -> None:
    for pack in store.glob("*.pack"):
        os.truncate(pack, 0)


def _last_unreadable(store: Path) -> None:
    (store / "000003.checkpoint").write_bytes(b"")


def _last_of_another_form(store: Path) -> None:
    (store / "000003.checkpoint").write_bytes(b"3")


def _last_without_a_digest(store: Path) -> None:
    path = store / "000003.checkpoint"
    path.write_bytes(path.read_bytes().replace(b'"digest": "', b'"digest": "~'))


def _last_of_another_version(store: Path) -> None:
    path = store / "000003.checkpoint"
    path.write_bytes(path.read_bytes().replace(b'"version": 2', b'"version": 1'))


@pytest.mark.parametrize(
    "damage",
    [
        _truncated, _emptied, _last_unreadable, _last_of_another_form, _last_without_a_digest,
        _last_of_another_version,
    ],
)  # fmt: skip
async def test_a_session_goes_on_over_a_damaged_store_and_new_checkpoints_are_whole(past, damage):
    damage(past.directory / "checkpoints")
    (past.tree / "a.txt").write_text("later\n")
    entry = (await kept(past))[-1]
    assert isinstance(entry, Checkpointed)
    assert entry.number == 4
    before = picture(past.tree)
    journal = Journal.open(past.directory)
    await journal.append(entry)
    journal.close()
    (past.tree / "a.txt").write_text("last\n")
    with Store(past.directory) as store:
        past_tree = Tree.__new__(Tree)
        past_tree.path, past_tree.writer = past.tree, store
        past_tree.back(store.load(4))
    assert picture(past.tree) == before


async def test_a_tree_that_did_not_change_is_kept_again_where_its_packs_are_damaged(past):
    _emptied(past.directory / "checkpoints")
    told = await kept(past, turns=2)
    assert [entry.code for entry in told] == ["checkpoint"]
    assert "cannot be read" in told[0].text
    with Store(past.directory) as store:
        past_tree = Tree.__new__(Tree)
        past_tree.path, past_tree.writer = past.tree, store
        (past.tree / "a.txt").unlink()
        past_tree.back(store.load(3))
    assert picture(past.tree) == past.pictures[3]


async def test_a_store_that_cannot_be_opened_is_a_warning(past, monkeypatch):
    def gone(self: Store, *arguments: object) -> None:
        raise CheckpointError("input/output error")

    monkeypatch.setattr(Store, "__init__", gone)
    (told,) = await kept(past, turns=3)
    assert told.code == "checkpoint"
    assert "input/output error" in told.text


def test_one_that_lacks_something_does_not_keep_the_others_from_being_collected(tmp_path):
    tree = Tree(tmp_path / "s", Bounds(megabytes=64, count=2))
    packs = tmp_path / "s" / "checkpoints"
    tree.write("f", "0")
    tree.take()
    before = set(packs.glob("*.pack"))
    tree.write("f", "1")
    tree.take()
    (damaged,) = set(packs.glob("*.pack")) - before
    tree.writer.packs.close()
    os.truncate(damaged, 3)
    tree.writer = Writer(tmp_path / "s", Bounds(megabytes=64, count=2))
    for turn in range(2, 6):
        tree.write("f", str(turn))
        assert tree.take().number == turn
    assert tree.writer.numbers() == [0, 5]


@pytest.mark.parametrize("cut", [False, True])
def test_nothing_is_touched_for_a_checkpoint_that_is_damaged(past, cut):
    (pack,) = (
        one for one in (past.directory / "checkpoints").glob("*.pack") if b"turn 1\n" in one.read_bytes()
    )
    held = pack.read_bytes()
    pack.write_bytes(held[:10] if cut else held.replace(b"turn 1\n", b"turn ?\n"))
    before = picture(past.tree)
    with pytest.raises(UsageError, match=r"is missing|not what was stored"):
        past.rewind(1)
    assert unfinished(past.directory) is None
    assert picture(past.tree) == before
    past.rewind(2)
    assert picture(past.tree) == past.pictures[2]


@pytest.mark.parametrize("mark", [b"", b"\0\0", b"-1", b"\xff"])
def test_a_mark_that_was_cut_short_is_one_of_a_rewind_that_was(past, mark):
    (past.directory / "checkpoints" / MARK).write_bytes(mark)
    assert unfinished(past.directory) == "N"
    past.rewind(2)
    assert unfinished(past.directory) is None


def test_a_full_disk_at_the_mark_leaves_everything_as_it_was(past, monkeypatch):
    (past.tree / "a.txt").write_text("mine\n")
    past.rewind(3)  # nothing is new from here on
    before = picture(past.tree)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("sandbox.checkpoints.packs.os.fsync", full)
        with pytest.raises(UsageError, match="No space"):
            past.rewind(0)
    assert picture(past.tree) == before
    assert unfinished(past.directory) is None


async def test_where_the_whole_store_is_gone_no_number_is_given_twice(past):
    shutil.rmtree(past.directory / "checkpoints")
    (entry,) = await kept(past)
    assert entry.number == 4


async def test_a_file_in_place_of_the_store_is_a_warning(past):
    shutil.rmtree(past.directory / "checkpoints")
    (past.directory / "checkpoints").write_text("")
    assert unfinished(past.directory) is None
    (told,) = await kept(past, turns=2)
    assert told.code == "checkpoint"


def test_without_its_manifest_a_session_is_taken_back_all_the_same(past):
    (past.directory / "manifest").write_bytes(b"junk")
    past.rewind(1)
    assert picture(past.tree) == past.pictures[1]
    assert unfinished(past.directory) is None
