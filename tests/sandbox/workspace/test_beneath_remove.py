"""Removing a tree by directory descriptors, whatever the guest left in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from workspace_session import Session, fill

from sandbox.workspace import beneath, discard


def remove(path: Path) -> None:
    with beneath.root(path.parent) as parent:
        beneath.remove_tree(parent, path.name)


def nest(top: Path, depth: int) -> None:
    here = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("dddd", dir_fd=here)
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
        below = os.open("dddd", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)


def test_a_tree_deeper_than_any_path_goes(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    nest(tmp_path / "t", 1200)
    remove(tmp_path / "t")
    assert not (tmp_path / "t").exists()


def test_directories_closed_to_everyone_go(tmp_path: Path) -> None:
    fill(tmp_path, {"t/a/b/c": "x"})
    for path in ("t/a/b", "t/a", "t"):
        (tmp_path / path).chmod(0)
    remove(tmp_path / "t")
    assert not (tmp_path / "t").exists()


def test_links_go_and_what_they_point_to_stays(tmp_path: Path) -> None:
    fill(tmp_path, {"outside/kept": "x", "t/a": "y"})
    (tmp_path / "t/link").symlink_to("../outside")
    os.link(tmp_path / "outside/kept", tmp_path / "t/hard")
    remove(tmp_path / "t")
    assert (tmp_path / "outside/kept").read_text() == "x"


def test_many_files_and_odd_names_go(tmp_path: Path) -> None:
    fill(tmp_path, {f"t/{n}": "" for n in range(2000)})
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/t/\xff\n")).write_text("")
    os.mkfifo(tmp_path / "t/pipe")
    remove(tmp_path / "t")
    assert not (tmp_path / "t").exists()


def test_what_is_not_there_is_no_error(tmp_path: Path) -> None:
    remove(tmp_path / "t")


def test_discard_leaves_nothing_of_the_copy_and_can_be_said_twice(session: Session) -> None:
    nest(session.copy, 200)
    discard(session.dir)
    discard(session.dir)
    assert [path.name for path in session.dir.iterdir()] == ["workspace.lock"]


@pytest.mark.parametrize("path", ["", "/etc", "a/../b", "a//b", "./a", "a/.", "..", "a\0b"])
def test_only_plain_relative_paths_are_walked(path: str) -> None:
    with pytest.raises(ValueError, match="plain relative path"):
        beneath.components(path)


def test_a_fifo_or_directory_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dir").mkdir()
    (tmp_path / "link").symlink_to("/etc/passwd")
    with beneath.root(tmp_path) as top:
        for name in ("pipe", "dir", "link"):
            with pytest.raises(beneath.NotRegular):
                beneath.open_regular(top, name)


def test_reading_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "giant").write_bytes(b"")
    os.truncate(tmp_path / "giant", 10 << 40)
    (tmp_path / "fits").write_bytes(b"12345")
    with beneath.root(tmp_path) as top:
        with pytest.raises(beneath.TooLarge):
            beneath.read_regular(top, "giant", 1 << 20)
        with pytest.raises(beneath.TooLarge):
            beneath.read_regular(top, "fits", 4)
        assert beneath.read_regular(top, "fits", 5)[0] == b"12345"
