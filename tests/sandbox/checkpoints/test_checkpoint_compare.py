"""What differs between two checkpoints of an overlay's upper layer."""

from __future__ import annotations

import os
import stat

import pytest

from sandbox.checkpoints.compare import differences
from sandbox.checkpoints.packs import PackWriter
from sandbox.checkpoints.scan import scan
from sandbox.workspace import beneath
from tests.sandbox.checkpoints.tree_double import Tree


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes whiteouts, and only root has overlays")
def test_a_whiteout_is_a_deletion(tmp_path):
    tree = Tree(tmp_path / "s")

    def taken() -> bytes:
        writer = PackWriter(tree.writer.packs, 1 << 20)
        with beneath.root(tree.path) as top:
            found = scan(top, writer, None, overlay=True)
        writer.commit()
        return found.digest

    tree.write("written", "x")
    before = taken()
    (tree.path / "written").unlink()
    for name in ("written", "below"):
        os.mknod(tree.path / name, stat.S_IFCHR, os.makedev(0, 0))
    found = list(differences(tree.writer.packs, before, taken()))
    assert [(one.path, one.kind, one.node) for one in found] == [
        ("below", "deleted", "of your directory"),
        ("written", "deleted", "file"),
    ]
