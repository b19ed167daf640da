"""Diff and apply on a full disk: each file is the old one or the new one, whole, and it is said which."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from workspace_session import GID, UID, fill

from policies.schema import Limits
from sandbox.workspace import discard
from sandbox.workspace.accept import apply
from sandbox.workspace.compare import changes
from sandbox.workspace.copyin import copy_in
from sandbox.workspace.manifest import AppliedLog, applied_paths
from sandbox.workspace.quota import exact_unavailable, prepare
from tests.recovery.small_disk import Disk, small_disk

pytestmark = pytest.mark.skipif(exact_unavailable() is not None, reason="only root can mount a small disk")
OLD, NEW = b"old\n" * 1000, b"new\n" * 50_000


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with small_disk(tmp_path, 2) as made:
        yield made


def changed(source: Path, session_dir: Path) -> None:
    """A session that made two files larger, added one and removed one."""
    source.mkdir()
    fill(source, {"first": OLD, "second": OLD, "removed": OLD})
    session_dir.mkdir(parents=True, mode=0o700)
    limits = Limits(workspace_mb=16)
    copy = prepare(session_dir, limits, uid=UID, gid=GID, kind="watched directory").path
    copy_in(source, session_dir, limits=limits, uid=UID, gid=GID)
    fill(copy, {"first": NEW, "second": NEW, "added": NEW})
    (copy / "removed").unlink()


def test_your_full_disk_keeps_every_file_whole_and_the_rest_is_applied_later(
    tmp_path: Path, disk: Disk
) -> None:
    source, session_dir = disk.path / "project", tmp_path / "store" / "session"
    changed(source, session_dir)
    disk.fill()
    report = apply(session_dir)
    # Nothing was deleted that may have been moved, and nothing stands there half or under another name.
    assert report.applied == ()
    assert {path: reason.split(";")[0] for path, reason in report.skipped} == dict.fromkeys(
        ("added", "first", "removed", "second"), "the disk is full"
    )
    assert {path.name: path.read_bytes() for path in source.iterdir()} == dict.fromkeys(
        ("first", "removed", "second"), OLD
    )
    disk.empty()
    assert apply(session_dir).applied == ("added", "first", "removed", "second")
    assert {path.name: path.read_bytes() for path in source.iterdir()} == dict.fromkeys(
        ("first", "second", "added"), NEW
    )
    assert changes(session_dir).changes == ()
    discard(session_dir)


def test_a_full_disk_under_the_session_loses_no_record_of_what_was_applied(
    tmp_path: Path, disk: Disk
) -> None:
    source, session_dir = tmp_path / "project", disk.path / "session"
    changed(source, session_dir)
    disk.fill()
    assert len(changes(session_dir).changes) == 4
    apply(session_dir)
    disk.empty()
    apply(session_dir)
    assert {path.name: path.read_bytes() for path in source.iterdir()} == dict.fromkeys(
        ("first", "second", "added"), NEW
    )
    assert changes(session_dir).changes == ()
    discard(session_dir)


def test_a_line_that_does_not_fit_leaves_no_part_behind(disk: Disk) -> None:
    with AppliedLog(disk.path) as log:
        log.record("a" * 3000, None)
        disk.fill()
        for number in range(20):
            try:
                log.record(f"{number}" + "b" * 700, None)
            except OSError:
                break
        else:
            raise AssertionError("the disk never became full")
        disk.empty()
        log.record("c", None)
    assert "c" in applied_paths(disk.path)
