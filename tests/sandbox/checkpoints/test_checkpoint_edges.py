"""What a look at the tree could miss: writes that move no clock, exchanged files, names of one file."""

from __future__ import annotations

import mmap
import os
import time

from sandbox.checkpoints.tree import decode, top
from tests.sandbox.checkpoints.tree_double import Tree


def held(tree, checkpoint, name):
    packs = tree.writer.packs
    return packs.read(dict(decode(packs.read(top(packs, checkpoint.root).digest)))[name].digest)


def test_what_a_job_writes_through_mapped_memory_is_seen(tmp_path):
    tree = Tree(tmp_path / "s")
    path = tree.write("mapped", b"0" * 4096)
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        memory[:5] = b"first"
        time.sleep(0.1)  # It is older then than what is looked at anew in any case.
        assert held(tree, tree.take(unsettled=True), "mapped").startswith(b"first")
        # The page is writable still, so the file's times stay as they are.
        memory[:5] = b"later"
        assert held(tree, tree.take(unsettled=True), "mapped").startswith(b"later")


def test_a_file_that_was_exchanged_as_it_was_looked_at_is_kept_as_the_new_one(tmp_path, monkeypatch):
    tree = Tree(tmp_path / "s")
    tree.write("f", "the old one")
    spare = tree.write("spare", "the new one")
    real = os.open

    def exchanged(name, *args, **kwargs):
        if name == "f" and spare.exists():
            spare.rename(tree.path / "f")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(os, "open", exchanged)
    taken = tree.take()
    assert taken.unsettled
    assert held(tree, taken, "f") == b"the new one"
    monkeypatch.undo()
    tree.write("f", "another one")
    assert held(tree, tree.take(), "f") == b"another one"


def test_names_that_became_one_file_are_files_of_their_own_again(tmp_path):
    tree = Tree(tmp_path / "s")
    one, other = tree.write("one", "the same"), tree.write("other", "the same")
    for path in (one, other):
        os.utime(path, ns=(0, 0))
    taken = tree.take()
    other.unlink()
    os.link(one, other)
    tree.back(taken)
    one.write_text("altered")
    assert other.read_text() == "the same"
