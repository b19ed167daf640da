"""A sparse file that is cut short between two looks at it: it is read as it is then, and nothing fails."""

from __future__ import annotations

import os

import pytest

from sandbox.checkpoints import content
from sandbox.workspace.copyfile import copy_sparse

SIZE = 8 << 20


@pytest.fixture
def shrinking(tmp_path, monkeypatch):
    """Open; it loses its data once somebody has found where that begins."""
    path = tmp_path / "sparse"
    with open(path, "wb") as file:
        file.truncate(SIZE)
        file.seek(SIZE // 2)
        file.write(b"data")
    lseek = os.lseek

    def cut_short(descriptor, position, whence):
        if whence == os.SEEK_HOLE:
            os.truncate(path, 0)
        return lseek(descriptor, position, whence)

    monkeypatch.setattr(os, "lseek", cut_short)
    with open(path, "rb") as file:
        yield file.fileno()


def test_a_checkpoint_has_what_is_left_of_it(shrinking, tmp_path):
    with open(tmp_path / "back", "w+b") as back:
        content.write_extents(content.extents(shrinking, SIZE), back.fileno())
        assert os.fstat(back.fileno()).st_size == SIZE
        assert not any(back.read())


def test_so_has_a_copy(shrinking, tmp_path):
    with open(tmp_path / "copy", "w+b") as copy:
        copy_sparse(shrinking, copy.fileno(), SIZE)
        assert os.fstat(copy.fileno()).st_size == SIZE
        assert not any(copy.read())
