"""A child whose checkpoints are damaged costs its parent what only they held, and never the session."""

from __future__ import annotations

import pytest
from kernel_double import calls
from test_merge import Nest

from harness.process.session import Child
from harness.syscalls.spawn import _patch
from sandbox.workspace import manifest
from tests.sandbox.checkpoints.tree_double import Tree

MADE = b"what the child made of it"


@pytest.fixture
def damaged(tmp_path):
    """The session directory of a child, one of whose files is not what was stored."""
    tree = Tree(tmp_path / "child")
    tree.write("a", "as it was")
    tree.take()
    tree.write("a", MADE)
    tree.write("b", "whole")
    tree.take()
    tree.writer.packs.close()
    for pack in (tree.session_dir / "checkpoints").glob("*.pack"):
        pack.write_bytes(pack.read_bytes().replace(MADE, MADE.upper()))
    manifest.save(tree.session_dir, manifest.Manifest(tmp_path, 0, 0, {}, {}, []))
    return tree.session_dir


KID = Child("kid", "s", "c", mergeable=True)


def test_its_parent_is_told_that_there_is_no_patch(damaged):
    lines, _ = _patch(damaged, KID, 10_000)
    assert "# a cannot be shown: what was stored of it is damaged" in lines
    assert "+whole" in lines


async def test_what_is_whole_is_merged_all_the_same(make_session, damaged):
    run = make_session([calls(("merge", {"child": "kid"})), "done"], files={"/workspace/a": "as it was"})
    object.__setattr__(run.kernel.devices, "children", Nest(damaged))
    run.session.children["kid"] = KID
    assert (await run.turn()).status == "done"
    (result,) = run.results
    assert result.error == "conflict"
    assert "a: what was stored of it is damaged" in result.content
    assert await run.box.read_file("/workspace/a") == b"as it was"
    assert await run.box.read_file("/workspace/b") == b"whole"
