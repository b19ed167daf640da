"""The exact limit: a file-system image. Where this process cannot have one, asking for one is refused."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from workspace_session import GID, UID, Session, fill

from policies.schema import Limits
from sandbox.errors import SandboxRefused
from sandbox.workspace.accept import apply
from sandbox.workspace.compare import changes
from sandbox.workspace.difftext import diff_text
from sandbox.workspace.quota import (
    exact_unavailable,
    mounted_sessions,
    opened,
    prepare,
    release,
    remove,
    storage_of,
)

Begin = Callable[..., Session]
LIMITS = Limits(workspace_mb=32, workspace_inodes=1024)
needs_image = pytest.mark.skipif(
    exact_unavailable() is not None, reason="the refusal is what is tested on such a machine"
)


def loop_devices(session_dir: Path) -> int:
    """How many loop devices hold this session's image."""
    image = str(session_dir / "workspace.img")
    backing = Path("/sys/block").glob("loop*/loop/backing_file")
    return sum(path.read_text().startswith(image) for path in backing)


def let_go(session_dir: Path) -> bool:
    """Whether the loop device goes. A container being started elsewhere holds a copy of every mount for a
    moment.
    """
    for _ in range(600):
        if loop_devices(session_dir) == 0:
            return True
        time.sleep(0.05)
    return False


def until_full(write: Callable[[], object]) -> int:
    """How often this works before the file system says that it is full."""
    for times in count():
        try:
            write()
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            return times
        if times > 5000:
            break
    raise AssertionError("nothing stopped it")


def test_the_kind_is_chosen_stated_and_never_another_than_asked_for(tmp_path: Path) -> None:
    missing = exact_unavailable()
    if missing is None:
        storage = prepare(tmp_path, LIMITS, uid=UID, gid=GID)
        assert (storage.kind, storage.exact) == ("quota image", True)
        remove(tmp_path)
    else:
        storage = prepare(tmp_path, LIMITS, uid=UID, gid=GID)
        assert (storage.kind, storage.exact) == ("watched directory", False)
        other = tmp_path / "other"
        other.mkdir()
        with pytest.raises(SandboxRefused, match="no exact workspace limit"):
            prepare(other, LIMITS, uid=UID, gid=GID, kind="quota image")


def test_where_mounting_is_refused_the_limit_is_watched_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(session_dir: Path) -> None:
        raise SandboxRefused("mount failed: not permitted")

    monkeypatch.setattr("sandbox.workspace.quota.exact_unavailable", lambda: None)
    monkeypatch.setattr("sandbox.workspace.quota._make_image", lambda image, limits: image.touch())
    monkeypatch.setattr("sandbox.workspace.quota._mount", refused)
    storage = prepare(tmp_path, LIMITS, uid=UID, gid=GID)
    assert (storage.kind, storage.inexact) == ("watched directory", "mount failed: not permitted")
    assert storage_of(tmp_path).kind == "watched directory"
    (tmp_path / "asked").mkdir()
    with pytest.raises(SandboxRefused, match="not permitted"):
        prepare(tmp_path / "asked", LIMITS, uid=UID, gid=GID, kind="quota image")


@needs_image
def test_the_disk_limit_is_exact_and_space_comes_back(begin: Begin) -> None:
    session = begin(limits=LIMITS, kind="quota image")
    chunk = os.urandom(1 << 20)
    with (session.copy / "fill").open("wb", buffering=0) as file:
        written = until_full(lambda: file.write(chunk))
    assert 32 <= written <= 42
    (session.copy / "fill").unlink()
    (session.copy / "again").write_bytes(chunk)


@needs_image
def test_the_inode_limit_is_exact(begin: Begin) -> None:
    session = begin(limits=LIMITS, kind="quota image")
    numbers = count()
    made = until_full(lambda: (session.copy / f"f{next(numbers)}").touch())
    assert 950 <= made <= 1100


@needs_image
def test_the_mount_gives_no_setuid_and_no_devices(begin: Begin) -> None:
    session = begin(limits=LIMITS, kind="quota image")
    assert os.statvfs(session.copy).f_flag & os.ST_NOSUID
    assert os.statvfs(session.copy).f_flag & os.ST_NODEV
    assert sorted(path.name for path in session.copy.iterdir() if path.name == "lost+found") == []


@needs_image
def test_the_image_is_private_and_sparse(begin: Begin) -> None:
    session = begin(limits=LIMITS, kind="quota image")
    status = (session.dir / "workspace.img").stat()
    assert status.st_mode & 0o777 == 0o600
    assert status.st_blocks * 512 < status.st_size // 2


@needs_image
def test_after_release_the_copy_is_mounted_only_while_it_is_looked_at(source: Path, begin: Begin) -> None:
    session = begin(limits=LIMITS, kind="quota image")
    fill(session.copy, {"README": "changed\n"})
    session.storage.release()
    session.storage.release()
    assert let_go(session.dir)
    assert [change.path for change in changes(session.dir).changes] == ["README"]
    assert "+changed" in list(diff_text(session.dir))
    assert apply(session.dir).applied == ("README",)
    assert (source / "README").read_text() == "changed\n"
    assert changes(session.dir).changes == ()
    assert let_go(session.dir)
    assert not session.copy.exists()


@needs_image
def test_looking_while_the_sandbox_runs_leaves_the_mount(begin: Begin) -> None:
    session = begin(limits=LIMITS, kind="quota image")
    with opened(session.dir) as path:
        assert (path / "README").exists()
    assert session.copy.exists()
    assert loop_devices(session.dir) == 1


@needs_image
def test_mounts_that_a_killed_harness_left_are_found_and_released(tmp_path: Path, begin: Begin) -> None:
    session = begin(limits=LIMITS, kind="quota image")
    store = tmp_path / "store"
    assert mounted_sessions(store) == [session.dir]
    release(session.dir)
    assert mounted_sessions(store) == []
    assert storage_of(session.dir).kind == "quota image"


@needs_image
def test_odd_session_paths_are_found(tmp_path: Path) -> None:
    session_dir = tmp_path / "a b\\c\nd"
    session_dir.mkdir()
    prepare(session_dir, LIMITS, uid=UID, gid=GID)
    try:
        assert mounted_sessions(tmp_path) == [session_dir]
    finally:
        remove(session_dir)
    assert mounted_sessions(tmp_path) == []


@needs_image
def test_remove_takes_the_image_and_the_loop_device_along(begin: Begin) -> None:
    session = begin(limits=LIMITS, kind="quota image")
    remove(session.dir)
    assert let_go(session.dir)
    assert [path.name for path in session.dir.iterdir() if path.name.startswith("workspace")] == [
        "workspace.lock"
    ]
    remove(session.dir)


@needs_image
def test_a_directory_that_does_not_fit_the_image_is_refused(source: Path, begin: Begin) -> None:
    fill(source, {f"f{n}": "x" for n in range(1500)})
    with pytest.raises(SandboxRefused, match="leave something out"):
        begin(limits=LIMITS, kind="quota image")


def test_a_session_is_prepared_once(tmp_path: Path) -> None:
    prepare(tmp_path, LIMITS, uid=UID, gid=GID, kind="watched directory")
    with pytest.raises(FileExistsError):
        prepare(tmp_path, LIMITS, uid=UID, gid=GID, kind="watched directory")
