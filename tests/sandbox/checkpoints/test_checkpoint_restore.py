"""What a checkpoint holds comes back exactly: contents, modes, links, deletions, names of any bytes."""

from __future__ import annotations

import os
import random
import shutil
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.checkpoints.errors import Damaged
from sandbox.checkpoints.packs import SUFFIX
from sandbox.workspace import beneath
from tests.sandbox.checkpoints.tree_double import Tree, picture

NAMES = ["a", "b", "sub", "new\nline", "\udcff\udcfe", "ü", "-rf", " ", "\x1b[31m", ".git"]
WHAT = ["write", "write", "big", "sparse", "directory", "link", "mode", "remove", "rename", "hard"]


def scramble(top: Path, dice: random.Random) -> None:
    """A few things that a session may do to a tree, anywhere in it.

    This process does them, outside of any container: nothing here may follow a link.
    """
    directories = [Path(path) for path, _, _ in os.walk(top)]
    for _ in range(dice.randint(1, 8)):
        path = dice.choice(directories) / dice.choice(NAMES)
        what = dice.choice(WHAT)
        there = path.is_symlink() or path.exists()
        if what in ("write", "big", "sparse") and not path.is_dir():
            path.unlink(missing_ok=True)
            with open(os.open(path, beneath.NEW_FILE, 0o644), "wb") as file:
                if what == "write":
                    file.write(dice.randbytes(dice.choice([0, 1, 100, 5000])))
                elif what == "big":
                    file.write(dice.randbytes(5000) * 300)
                else:
                    file.truncate(5 << 20)
                    file.seek(2 << 20)
                    file.write(b"island")
        elif what == "directory" and not there:
            path.mkdir()
            directories.append(path)
        elif what == "link" and not there:
            path.symlink_to(dice.choice(["/nonexistent/usermode", "..", "a", "\udcff"]))
        elif what == "mode" and there and not path.is_symlink():
            path.chmod(dice.choice([0o600, 0o755, 0o400, 0o000, 0o4755]))
        elif what == "remove" and there:
            _remove(path)
            directories = [one for one in directories if one != path and path not in one.parents]
        elif what == "rename" and there and not path.is_dir():
            target = dice.choice(directories) / dice.choice(NAMES)
            if not (target.is_dir() and not target.is_symlink()):
                path.rename(target)
        elif what == "hard" and there and path.is_file() and not path.is_symlink():
            target = dice.choice(directories) / dice.choice(NAMES)
            if not (target.is_symlink() or target.exists()):
                target.hardlink_to(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**64))
def test_any_tree_changed_in_any_way_comes_back_as_it_was(seed):
    # A seed and not the draws themselves: a tree takes more of those than hypothesis likes to give.
    dice = random.Random(seed)
    with tempfile.TemporaryDirectory() as scratch:
        tree = Tree(Path(scratch) / "session")
        pictures = {}
        for _ in range(dice.randint(1, 4)):
            scramble(tree.path, dice)
            _drop_special_modes(tree.path)
            taken = tree.writer.take()
            if taken is not None:
                pictures[taken.number] = picture(tree.path)
        scramble(tree.path, dice)
        for number in dice.sample(sorted(pictures), len(pictures)):
            checkpoint = tree.writer.load(number)
            tree.back(checkpoint)
            assert picture(tree.path) == pictures[number]
            assert tree.back(checkpoint).made == 0  # as it was, nothing is touched


def _drop_special_modes(top: Path) -> None:
    """setuid and its like are never kept, so the picture is one without."""
    for parent, directories, files in os.walk(top):
        for name in (*directories, *files):
            path = Path(parent, name)
            if not path.is_symlink():
                path.chmod(stat.S_IMODE(path.lstat().st_mode) & 0o777)


def test_an_unchanged_tree_makes_no_checkpoint_and_a_change_costs_only_itself(tmp_path):
    tree = Tree(tmp_path / "s")
    for number in range(50):
        tree.write(f"d{number % 5}/f{number}", random.Random(number).randbytes(20_000))
    first = tree.take()
    assert tree.writer.take() is None
    tree.write("d0/f0", "changed")
    second = tree.take()
    assert (first.number, second.number, second.files) == (0, 1, 1)
    assert first.stored_bytes > 1_000_000
    assert second.stored_bytes < 5_000


def test_the_same_content_is_stored_once(tmp_path):
    tree = Tree(tmp_path / "s")
    content = random.Random(1).randbytes(500_000)
    for number in range(20):
        tree.write(f"f{number}", content)
    assert tree.take().stored_bytes < 600_000


def test_a_change_right_after_a_scan_is_seen_though_size_and_time_are_the_same(tmp_path):
    tree = Tree(tmp_path / "s")
    file = tree.write("f", "one")
    tree.take()
    for content in ("two", "six", "ten"):
        before = file.stat()
        with open(file, "r+b") as out:
            out.write(content.encode())
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        taken = tree.take()
        tree.back(taken)
        assert file.read_text() == content


def test_special_files_are_not_kept_and_not_opened(tmp_path):
    tree = Tree(tmp_path / "s")
    os.mkfifo(tree.path / "fifo")
    tree.write("program", "x", 0o6755)
    taken = tree.take()
    assert taken.left_out == 1
    (tree.path / "program").unlink()
    tree.back(taken)
    assert stat.S_IMODE((tree.path / "program").stat().st_mode) == 0o755
    assert stat.S_ISFIFO((tree.path / "fifo").lstat().st_mode)


def test_a_link_in_place_of_a_directory_leads_nowhere(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("mine")
    tree = Tree(tmp_path / "s")
    tree.write("d/kept", "the session's")
    tree.write("d/f", "1")
    tree.write("g", "content of g")
    taken = tree.take()
    shutil.rmtree(tree.path / "d")
    (tree.path / "d").symlink_to(outside)
    (tree.path / "g").unlink()
    (tree.path / "g").symlink_to(outside / "kept")
    during = tree.take()
    tree.back(taken)
    assert [path.name for path in outside.iterdir()] == ["kept"]
    assert (outside / "kept").read_text() == "mine"
    assert (tree.path / "d" / "kept").read_text() == "the session's"
    tree.back(during)
    assert (outside / "kept").read_text() == "mine"
    assert (tree.path / "d").readlink() == outside


def test_a_hard_link_to_something_else_is_not_written_through(tmp_path):
    tree = Tree(tmp_path / "s")
    tree.write("f", "before")
    taken = tree.take()
    (tmp_path / "mine").write_text("mine")
    (tree.path / "f").unlink()
    os.link(tmp_path / "mine", tree.path / "f")
    tree.back(taken)
    assert (tmp_path / "mine").read_text() == "mine"
    assert (tree.path / "f").read_text() == "before"


def test_a_giant_with_holes_costs_what_it_holds(tmp_path):
    tree = Tree(tmp_path / "s")
    with open(tree.path / "giant", "wb") as file:
        file.truncate(1 << 40)
        file.seek(1 << 39)
        file.write(b"island")
    taken = tree.take()
    assert taken.stored_bytes < 100_000
    (tree.path / "giant").unlink()
    tree.back(taken)
    found = (tree.path / "giant").stat()
    assert found.st_size == 1 << 40
    assert found.st_blocks * 512 < 1 << 20
    with open(tree.path / "giant", "rb") as file:
        file.seek(1 << 39)
        assert file.read(6) == b"island"


def test_a_directory_too_deep_is_left_out_and_left_alone(tmp_path):
    tree = Tree(tmp_path / "s")
    here = os.open(tree.path, os.O_RDONLY)
    for _ in range(beneath.MAX_DEPTH + 20):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    taken = tree.take()
    assert taken.left_out == 1
    tree.back(taken)
    with beneath.root(tree.path) as top:
        depth, here = 0, os.dup(top)
        while beneath.look(here, "d") is not None:
            below = beneath.enter(here, "d")
            os.close(here)
            here, depth = below, depth + 1
        os.close(here)
        assert depth == beneath.MAX_DEPTH + 20
        beneath.remove_tree(top, "d")


def test_a_restore_that_was_cut_short_is_finished_by_the_next(tmp_path, monkeypatch):
    tree = Tree(tmp_path / "s")
    for number in range(10):
        tree.write(f"f{number}", f"content {number}")
    taken = tree.take()
    before = picture(tree.path)
    for number in range(10):
        tree.write(f"f{number}", "other")
    read, left = tree.writer.packs.read, [7]  # three are directories'

    def failing(digest):
        left[0] -= 1
        if not left[0]:
            raise OSError(28, "No space left on device")
        return read(digest)

    monkeypatch.setattr(tree.writer.packs, "read", failing)
    with pytest.raises(OSError, match="No space"):
        tree.back(taken)
    monkeypatch.undo()
    tree.back(taken)
    assert picture(tree.path) == before


def test_a_stored_byte_that_changed_is_noticed(tmp_path):
    tree = Tree(tmp_path / "s")
    tree.write("f", "A" * 1000)
    taken = tree.take()
    pack = next((tmp_path / "s" / "checkpoints").glob(f"*{SUFFIX}"))
    content = pack.read_bytes()
    pack.write_bytes(content.replace(b"A" * 1000, b"A" * 999 + b"B"))
    (tree.path / "f").unlink()
    with pytest.raises(Damaged):
        tree.back(taken)
    assert not (tree.path / "f").exists()
