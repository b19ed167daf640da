"""What differs between two checkpoints of an overlay's upper layer."""

from __future__ import annotations

import os
import stat

import pytest

from sandbox.checkpoints.compare import differences
from sandbox.checkpoints.packs import PackWriter
from sandbox.checkpoints.scan import scan
from sandbox.workspace import beneath
from sandbox.workspace.scan import OPAQUE_MARK
from tests.sandbox.checkpoints.tree_double import Tree

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root makes whiteouts, and only root has overlays"
)


def taken(tree: Tree) -> bytes:
    writer = PackWriter(tree.writer.packs, 1 << 20)
    with beneath.root(tree.path) as top:
        found = scan(top, writer, None, overlay=True)
    writer.commit()
    return found.digest


def test_a_whiteout_is_a_deletion(tmp_path):
    tree = Tree(tmp_path / "s")
    tree.write("written", "x")
    before = taken(tree)
    (tree.path / "written").unlink()
    for name in ("written", "below"):
        os.mknod(tree.path / name, stat.S_IFCHR, os.makedev(0, 0))
    found = list(differences(tree.writer.packs, before, taken(tree)))
    assert [(one.path, one.kind, one.node) for one in found] == [
        ("below", "deleted", "of your directory"),
        ("written", "deleted", "file"),
    ]


def test_where_a_whiteout_goes_the_users_file_is_there_again_unless_its_directory_hides_all(tmp_path):
    tree = Tree(tmp_path / "s")
    directory = tree.path / "dir"
    directory.mkdir()
    os.mknod(directory / "below", stat.S_IFCHR, os.makedev(0, 0))
    gone = taken(tree)
    (directory / "below").unlink()
    back = taken(tree)
    os.setxattr(directory, OPAQUE_MARK, b"y")
    hidden = taken(tree)
    packs = tree.writer.packs
    told = [(one.path, one.kind, one.node) for one in differences(packs, gone, back)]
    assert told == [("dir/below", "added", "of your directory")]
    assert list(differences(packs, gone, hidden)) == []
