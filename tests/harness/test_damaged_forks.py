"""A fork of what is damaged, or whose own files are lost: one clear line, and the command that goes on."""

from __future__ import annotations

import shutil
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
import test_rewind
from boot_double import MemoryMachine
from test_fork import seen
from test_rewind import Past

from harness.boot.machine import Opened
from harness.boot.resume import ResumeOptions, resume
from harness.commands.changes import diff
from harness.commands.fork import fork
from harness.commands.run import CUT_SHORT
from harness.errors import UsageError
from harness.exits import SANDBOX
from harness.process.interrupt import Interrupt
from sandbox import SandboxSpec, workspace
from sandbox.checkpoints.planting import plant
from sandbox.checkpoints.store import Store as Checkpoints
from sandbox.errors import WorkspaceLost
from sandbox.workspace.quota import promised

past = test_rewind.past


def damaged(directory: Path, held: bytes = b"turn 2\n") -> None:
    """One byte of a stored file is another one."""
    (pack,) = (one for one in (directory / "checkpoints").glob("*.pack") if held in one.read_bytes())
    # Packs are shared by hard links: only this session's own is to be another.
    other = pack.read_bytes().replace(held, bytes([held[0] ^ 1]) + held[1:])
    pack.unlink()
    pack.write_bytes(other)


def forks(past: Past) -> list[Path]:
    return [one for one in past.directory.parent.iterdir() if one != past.directory]


def test_a_fork_of_a_damaged_checkpoint_names_the_file_and_the_command_that_works(past: Past) -> None:
    name = past.directory.name
    damaged(past.directory)
    with pytest.raises(UsageError) as refused:
        fork(name, 2)
    assert str(refused.value) == (
        f"session {name} cannot be forked: checkpoint 2 is damaged ('a.txt' is not what was stored); "
        f"checkpoint 1 is whole: usermode fork {name} --at 1"
    )
    assert forks(past) == []
    assert fork(name, 1) == 0
    (made,) = forks(past)
    assert seen(Past(made, {})) == past.pictures[1]
    workspace.discard(made)


def test_a_checkpoint_whose_list_of_files_is_damaged_is_refused_too(past: Past) -> None:
    with Checkpoints(past.directory) as store:
        root = store.packs.read(store.load(2).root)
    damaged(past.directory, root)
    with pytest.raises(UsageError, match=r"list of files is not what was stored\); checkpoint \d is whole"):
        fork(past.directory.name, 2)


def test_where_nothing_is_whole_that_is_said(past: Past) -> None:
    for pack in (past.directory / "checkpoints").glob("*.pack"):
        pack.unlink()
    with pytest.raises(UsageError, match=r"checkpoint 3 is damaged .* and so is every other"):
        fork(past.directory.name, None)


@pytest.fixture
def broken(past: Past) -> Past:
    """Forked while the source was whole, and damaged before its files were made."""
    assert fork(past.directory.name, 2) == 0
    (made,) = forks(past)
    damaged(made)
    return Past(made, past.pictures)


def test_damage_that_comes_after_the_fork_is_told_with_the_way_on(broken: Past) -> None:
    name = broken.directory.name
    for attempt in (lambda: plant(broken.directory), lambda: diff(name, None)):
        with pytest.raises(WorkspaceLost) as lost:
            attempt()
        assert str(lost.value) == (
            "the workspace cannot be made: checkpoint 2 is damaged ('a.txt' is not what was stored); "
            f"checkpoint 1 is whole: usermode fork {name} --at 1"
        )
    assert promised(broken.directory)
    assert fork(name, 1) == 0


class NoWorkspace(MemoryMachine):
    def again(self, spec: SandboxSpec, ref: str | None) -> AbstractAsyncContextManager[Opened]:
        return self.open(spec)


async def test_a_session_whose_workspace_is_lost_does_not_ask_to_be_gone_on_with(
    broken: Past, tmp_path: Path
) -> None:
    script = tmp_path / "script.jsonl"
    script.write_text('{"text": "done"}\n')
    machine = NoWorkspace(fault=WorkspaceLost("no workspace"))
    options = ResumeOptions(broken.directory.name, "go on", f"scripted:{script}")
    ended = await resume(options, lambda event: None, Interrupt(), machine=machine)
    assert (ended.status, ended.exit_code, ended.reason) == ("failed", SANDBOX, "no workspace")
    assert ended.status not in CUT_SHORT
    assert ended.changes == 0


def test_a_workspace_that_the_disk_lost_is_told_apart_from_one_that_was_dropped(past: Past) -> None:
    name = past.directory.name
    shutil.rmtree(past.tree)
    for attempt in (lambda: diff(name, None), lambda: past.rewind(1)):
        with pytest.raises(UsageError, match=f"is gone .* usermode fork {name}$"):
            attempt()
    assert fork(name, None) == 0
    (made,) = forks(past)
    assert seen(Past(made, {})) == past.pictures[3]
    workspace.discard(made)
    workspace.discard(past.directory)
    with pytest.raises(UsageError, match="it had no workspace, or they were dropped"):
        diff(name, None)
