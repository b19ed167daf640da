"""What a scan takes for untouched: nothing that was changed, however little of it shows."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from sandbox.checkpoints import scan
from sandbox.checkpoints.store import Writer
from tests.sandbox.checkpoints.tree_double import WIDE, Tree, picture

AGED_S = 0.06
"""After this long what is not touched any more is known again by its status."""


def aged(tree: Tree) -> None:
    """Wait until all of the tree is old, and let the writer see that it is as it was."""
    time.sleep(AGED_S)
    assert tree.writer.take() is None


def _rewrite(top: Path) -> None:
    """The same size and the same times, as far as they can be set."""
    before = (top / "a/one").stat()
    (top / "a/one").write_text("two")
    os.utime(top / "a/one", ns=(before.st_atime_ns, before.st_mtime_ns))


def _replace(top: Path) -> None:
    """Another file under the name of one, and the directory's times set back."""
    before = (top / "a").stat()
    (top / "b/two").rename(top / "a/one")
    os.utime(top / "a", ns=(before.st_atime_ns, before.st_mtime_ns))


def _swap(top: Path) -> None:
    """Two directories change their names."""
    (top / "a").rename(top / "c")
    (top / "b").rename(top / "a")
    (top / "c").rename(top / "b")


EDITS = (
    _rewrite,
    lambda top: (top / "a/deep/new").write_text("new"),
    _replace,
    lambda top: (top / "a/one").chmod(0o600),
    lambda top: (top / "a/deep").chmod(0o700),
    _swap,
    lambda top: (top / "b/one").rename(top / "b/other"),
    lambda top: shutil.rmtree(top / "b/deep"),
    lambda top: (top / "b/deep").write_text("a file where a directory was"),
    lambda top: (top / "link").symlink_to("b"),
    lambda top: (top / "b/other").unlink(),
    lambda top: (top / "a/empty").mkdir(),
    lambda top: (top / "a/empty").rmdir(),
)


def test_whatever_changes_in_a_tree_that_had_come_to_rest_is_kept(tmp_path):
    tree = Tree(tmp_path / "s")
    for name in ("a/one", "a/deep/three", "b/two", "b/far/down/four"):
        tree.write(name, name[-3:])
    pictures = [picture(tree.path)]
    tree.take()
    for edit in EDITS:
        aged(tree)
        edit(tree.path)
        pictures.append(picture(tree.path))
        tree.take()
    for number, seen in enumerate(pictures):
        tree.back(tree.writer.load(number))
        assert picture(tree.path) == seen


def test_of_a_tree_at_rest_nothing_is_listed_or_read(tmp_path, monkeypatch):
    tree = Tree(tmp_path / "s")
    for number in range(20):
        tree.write(f"d{number % 4}/f{number}", "x")
    tree.take()
    aged(tree)
    aged(tree)  # by now nothing is young
    listed, opened = [], []
    monkeypatch.setattr(scan.os, "scandir", lambda *a: listed.append(a))
    monkeypatch.setattr(scan._Scan, "_file", lambda *a: opened.append(a))
    assert tree.writer.take() is None
    assert not listed
    assert not opened


def test_what_another_session_was_given_is_still_kept_here(tmp_path):
    tree = Tree(tmp_path / "s")
    tree.write("f", "first")
    tree.take()
    tree.write("g", "only in the other's store so far")
    (tmp_path / "other").mkdir()
    with Writer(tmp_path / "other", WIDE) as other:
        given = tree.writer.hand_over(other)
        assert given.number == 0
    taken = tree.take()
    assert taken.digest == given.digest
    before = picture(tree.path)
    (tree.path / "g").unlink()
    tree.back(taken)
    assert picture(tree.path) == before


def test_a_tree_that_is_handed_on_as_it_was_kept_is_read_once(tmp_path, monkeypatch):
    tree = Tree(tmp_path / "s")
    tree.write("f", "x")
    tree.take()
    time.sleep(AGED_S)
    reads = []
    real = scan._Scan._file
    monkeypatch.setattr(scan._Scan, "_file", lambda *a: reads.append(a) or real(*a))
    for number in range(3):
        (tmp_path / f"other{number}").mkdir()
        with Writer(tmp_path / f"other{number}", WIDE) as other:
            tree.writer.hand_over(other)
    assert len(reads) == 1


@pytest.mark.parametrize("year", [-2_000, 1_900, 2_100, 2_400, 300_000])
def test_a_file_of_any_date_is_kept(tmp_path, year):
    tree = Tree(tmp_path / "s")
    file = tree.write("f", "x")
    moment = (year - 1970) * 31_556_952 * 10**9
    os.utime(file, ns=(moment, moment))
    first = tree.take()
    file.unlink()
    tree.back(first)
    assert file.read_text() == "x"
