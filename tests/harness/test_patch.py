"""The patch of a child's changes: whole differences, as many as fit, and no more work than for those."""

from __future__ import annotations

from harness.patch import patch
from sandbox.checkpoints.compare import differences, text_of
from tests.sandbox.checkpoints.tree_double import Tree


def test_what_does_not_fit_any_more_is_counted_and_not_read(tmp_path, monkeypatch):
    tree = Tree(tmp_path / "s")
    first = tree.take()
    for number in range(50):
        tree.write(f"f{number:02}", f"text {number}\n" * 3)
    last = tree.take()
    packs = tree.writer.packs
    found = list(differences(packs, first.root, last.root))
    read = []
    monkeypatch.setattr(
        "harness.patch.text_of", lambda packs, node: read.append(node) or text_of(packs, node)
    )
    text, left_out = patch(packs, found, 500)
    assert 0 < text.count("+++ ") == 50 - left_out < 10
    assert len(read) == 2 * (50 - left_out + 1)
