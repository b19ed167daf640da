"""The bounds of a session's checkpoints, what is collected, and what an interruption leaves."""

from __future__ import annotations

import os
import random
import stat
from pathlib import Path

import pytest

from sandbox.checkpoints import tree as objects
from sandbox.checkpoints.errors import CheckpointError, TooMuch
from sandbox.checkpoints.packs import PackWriter
from sandbox.checkpoints.store import Bounds, Store, Writer
from tests.sandbox.checkpoints.tree_double import Tree, picture


def noise(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def size_of(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.iterdir())


def test_the_oldest_go_first_and_what_is_left_can_be_restored(tmp_path):
    tree = Tree(tmp_path / "s", Bounds(megabytes=64, count=5))
    pictures = {}
    for turn in range(20):
        tree.write("same", "the same all along")
        tree.write("f", noise(turn, 100_000))
        pictures[tree.take().number] = picture(tree.path)
    numbers = tree.writer.numbers()
    assert numbers[0] == 0
    assert numbers[-1] == 19
    assert 2 <= len(numbers) - 1 <= 5
    for number in numbers:
        tree.back(tree.writer.load(number))
        assert picture(tree.path) == pictures[number]
    with pytest.raises(CheckpointError, match="there is no checkpoint 3"):
        tree.writer.load(3)
    held = size_of(tmp_path / "s" / "checkpoints")
    assert held < 10 * 110_000  # collected, not only forgotten


def test_packs_are_merged_before_there_are_too_many_open_files(tmp_path, monkeypatch):
    monkeypatch.setattr("sandbox.checkpoints.store._MOST_PACKS", 8)
    tree = Tree(tmp_path / "s", Bounds(megabytes=64, count=100))
    files = len(list(Path("/proc/self/fd").iterdir()))
    pictures = {}
    for turn in range(40):
        tree.write(f"f{turn % 7}", noise(turn, 10_000))
        pictures[tree.take().number] = picture(tree.path)
        assert len(list(Path("/proc/self/fd").iterdir())) - files <= 8
    assert tree.writer.numbers() == list(range(40))
    for number in tree.writer.numbers():
        tree.back(tree.writer.load(number))
        assert picture(tree.path) == pictures[number]


def test_the_bytes_are_bounded_whatever_a_session_writes(tmp_path):
    tree = Tree(tmp_path / "s", Bounds(megabytes=2, count=50))
    pictures = {}
    for turn in range(12):
        tree.write("f", noise(turn, 700_000))
        pictures[tree.take().number] = picture(tree.path)
        held = size_of(tmp_path / "s" / "checkpoints")
        assert held <= (2 << 20) + 20_000
    for number in tree.writer.numbers():
        tree.back(tree.writer.load(number))
        assert picture(tree.path) == pictures[number]


def test_a_workspace_too_large_is_refused_and_the_earlier_ones_stay(tmp_path):
    tree = Tree(tmp_path / "s", Bounds(megabytes=1, count=50))
    tree.write("f", noise(1, 600_000))
    first = tree.take()
    before = picture(tree.path)
    tree.write("g", noise(2, 600_000))
    with pytest.raises(TooMuch):
        tree.take()
    tree.write("h", noise(3, 3_000_000))
    with pytest.raises(TooMuch):
        tree.take()
    assert tree.writer.numbers() == [0]
    held = size_of(tmp_path / "s" / "checkpoints")
    assert held < 700_000
    tree.back(first)
    assert picture(tree.path) == before
    tree.write("small", "fits again")
    assert tree.take().number == 1


def test_a_file_that_looks_like_a_tree_object_hides_nothing_from_the_collector(tmp_path):
    tree = Tree(tmp_path / "s", Bounds(megabytes=64, count=1))
    tree.write("d/f", "needed")
    first = tree.take()
    inner = objects.top(tree.writer.packs, first.root).digest
    node = dict(objects.decode(tree.writer.packs.read(inner)))["d"]
    tree.write("a", tree.writer.packs.read(node.digest))
    tree.write("z", tree.writer.packs.read(inner))
    for turn in range(4):
        tree.write("n", noise(turn, 1000))
        last = tree.take()
    before = picture(tree.path)
    (tree.path / "d" / "f").unlink()
    tree.back(last)
    assert picture(tree.path) == before


def test_it_is_private_and_outside_of_the_tree(tmp_path):
    tree = Tree(tmp_path / "s")
    tree.write("f", "x")
    tree.take()
    directory = tmp_path / "s" / "checkpoints"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o600}
    assert tree.path not in directory.parents


def test_what_a_killed_writer_left_is_swept_and_the_next_goes_on(tmp_path):
    tree = Tree(tmp_path / "s")
    tree.write("f", "x")
    tree.take()
    (tmp_path / "s" / "checkpoints" / "half.new").write_bytes(b"half")
    again = Writer(tmp_path / "s", Bounds(64, 50))
    assert not list((tmp_path / "s" / "checkpoints").glob("*.new"))
    assert again.take() is None
    tree.write("f", "y")
    taken = again.take()
    assert taken is not None
    assert taken.number == 1


def test_a_full_disk_of_the_host_leaves_no_half_checkpoint(tmp_path, monkeypatch):
    tree = Tree(tmp_path / "s")
    tree.write("f", "x")
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", _full)
        with pytest.raises(CheckpointError, match="No space"):
            tree.writer.take()
    assert list((tmp_path / "s" / "checkpoints").iterdir()) == []
    assert tree.take().number == 0


def test_a_disk_that_is_full_before_the_first_flush_is_told_as_that_and_nothing_else(tmp_path, monkeypatch):
    tree = Tree(tmp_path / "s")
    tree.write("f", noise(1, 100_000))
    begun = PackWriter.__init__

    def over_a_full_disk(self, *arguments):
        begun(self, *arguments)
        self._file.close()
        self._file = os.fdopen(os.open("/dev/full", os.O_WRONLY), "wb", buffering=1 << 20)

    monkeypatch.setattr(PackWriter, "__init__", over_a_full_disk)
    with pytest.raises(CheckpointError, match="No space"):
        tree.writer.take()
    assert list((tmp_path / "s" / "checkpoints").iterdir()) == []


def _full(descriptor: int) -> None:
    raise OSError(28, "No space left on device")


def test_a_reader_goes_on_reading_what_is_collected_meanwhile(tmp_path):
    tree = Tree(tmp_path / "s", Bounds(megabytes=64, count=1))
    tree.write("f", "first")
    tree.take()
    tree.write("f", "second")
    second = tree.take()
    with Store(tmp_path / "s") as reader:
        for turn in range(3):
            tree.write("f", noise(turn, 10_000))
            tree.take()
        assert second.number not in tree.writer.numbers()
        assert {name for name, _ in objects.walk(reader.packs, second.root)} == {".", "./f"}


def test_a_session_without_checkpoints_says_so(tmp_path):
    with pytest.raises(CheckpointError, match="has no checkpoints"):
        Store(tmp_path)


def test_the_start_is_kept_as_well_while_somebody_goes_back_to_it(tmp_path):
    tree = Tree(tmp_path / "s", Bounds(megabytes=2, count=50))
    tree.write("f", noise(0, 1_300_000))
    first, before = tree.take(), picture(tree.path)
    tree.write("f", noise(1, 1_300_000))
    tree.take(keep=(0,))
    tree.back(tree.writer.load(first.number))
    assert picture(tree.path) == before
