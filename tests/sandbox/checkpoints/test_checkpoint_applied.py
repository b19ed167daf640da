"""Going back in a session of which something was applied: its review still tells what differs from yours."""

from __future__ import annotations

import os

from policies.schema import Limits
from sandbox.checkpoints.rewind import bring_back
from sandbox.checkpoints.store import Bounds, Writer
from sandbox.workspace.accept import apply
from sandbox.workspace.compare import changes
from sandbox.workspace.copyin import copy_in
from sandbox.workspace.layout import tree_of
from sandbox.workspace.quota import prepare


def test_what_was_applied_shows_as_changed_once_it_is_taken_back(tmp_path):
    yours, session = tmp_path / "yours", tmp_path / "s"
    yours.mkdir()
    session.mkdir()
    for name in ("applied", "kept"):
        (yours / name).write_text("as it was")
    limits, owner = Limits(), {"uid": os.geteuid(), "gid": os.getegid()}
    prepare(session, limits, kind="watched directory", **owner)
    copy_in(yours, session, limits=limits, **owner)
    with Writer(session, Bounds(64, 10)) as writer:
        first = writer.take()
        for name in ("applied", "kept"):
            (tree_of(session) / name).write_text("as it now")
        assert apply(session, ["applied"]).applied == ("applied",)
        writer.take()
        bring_back(session, writer, first).done()
    assert (tree_of(session) / "applied").read_text() == "as it was"
    assert [(change.path, change.kind) for change in changes(session).changes] == [("applied", "modified")]
