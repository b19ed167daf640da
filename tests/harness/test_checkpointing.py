"""When the kernel keeps the workspace, and where that stands in the journal."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from kernel_double import bash, calls, policy_with

from harness.errors import BudgetSpent
from harness.events import Checkpointed
from harness.kernel.checkpointing import checkpointing
from harness.process.session import Job
from harness.provider import ProviderError
from policies.schema import Limits


class Keeper:
    """A checkpointer that notes when it is asked, and gives a checkpoint each time."""

    def __init__(self):
        self.begun: list[bool] = []
        self.scanning = False

    def begin(self, *, unsettled):
        self.begun.append(unsettled)
        self.scanning = True

    async def finished(self):
        if not self.scanning:
            return ()
        await asyncio.sleep(0.01)
        self.scanning = False
        return (Checkpointed(number=len(self.begun) - 1, digest="0" * 64, files=1, bytes=1),)


@pytest.fixture
def kept(make_session):
    """A session with a keeper."""

    def make(script, **limits):
        run = make_session(script, policy=policy_with(**limits))
        keeper = Keeper()
        devices = replace(run.kernel.devices, checkpoints=keeper)
        return replace(run, kernel=replace(run.kernel, devices=devices)), keeper

    return make


async def test_it_is_kept_first_and_after_calls_that_may_write_and_before_the_next_words(kept):
    run, keeper = kept(
        [calls(bash("true")), calls(("read", {"path": "/workspace/a"})), calls(bash("true")), "done"]
    )
    await run.turn()
    assert run.kinds() == [
        "message:user", "checkpointed",
        "message:assistant", "intent:bash", "outcome:bash", "checkpointed",
        "message:assistant", "intent:read", "outcome:read",
        "message:assistant", "intent:bash", "outcome:bash", "checkpointed",
        "message:assistant",
    ]  # fmt: skip
    assert keeper.begun == [False, False, False]


async def test_no_call_starts_while_it_is_being_kept(kept):
    run, keeper = kept([calls(bash("true")), calls(bash("true"), bash("true")), "done"])
    seen = []
    start = run.box.start

    async def watched(command):
        seen.append(keeper.scanning)
        return await start(command)

    run.box.start = watched
    await run.turn()
    assert seen
    assert not any(seen)


async def test_a_running_job_makes_it_unsettled(kept):
    run, keeper = kept([calls(bash("true")), "done"])
    run.session.jobs["job-1"] = Job("job-1", "0" * 16, "make", takes_input=False)
    await run.turn()
    # While a job runs, the turn's end is looked at as well: it may have written since the last call.
    assert keeper.begun == [True, True, True]


async def test_so_does_what_a_command_left_running_until_it_is_ended(kept):
    left = calls(bash("sleep 60 & true"))
    ended = calls(("job", {"action": "kill", "job": "job-1"}))
    run, keeper = kept([left, calls(("read", {"path": "/workspace/a"})), "done", ended, "done"])
    await run.turn()
    assert keeper.begun == [False, True, True]
    await run.turn()
    assert keeper.begun == [False, True, True, False]


async def test_a_turn_that_ends_early_is_kept_all_the_same(kept):
    run, _ = kept([calls(bash("true")), "never said"], turns=1)
    with pytest.raises(BudgetSpent, match="turns"):
        await run.turn()
    assert run.kinds()[-1] == "checkpointed"


async def test_so_is_one_whose_model_fails(kept):
    run, _ = kept([calls(bash("true"))])
    with pytest.raises(ProviderError):
        await run.turn()
    assert run.kinds().count("checkpointed") == 2


async def test_a_real_one_says_once_that_the_workspace_is_too_large(tmp_path):
    tree = tmp_path / "workspace" / "tree"
    tree.mkdir(parents=True)
    limits = Limits(checkpoint_mb=1)
    async with checkpointing(tmp_path, limits) as checkpoints:
        (tree / "f").write_bytes(b"small")
        checkpoints.begin(unsettled=False)
        (first,) = await checkpoints.finished()
        assert (first.number, first.files) == (0, 1)
        (tree / "f").write_bytes(b"x" * 2_000_000)
        codes = []
        for _ in range(3):
            checkpoints.begin(unsettled=False)
            codes += [entry.code for entry in await checkpoints.finished()]
        assert codes == ["checkpoint"]
        (tree / "f").write_bytes(b"small again")
        checkpoints.begin(unsettled=True)
        (second,) = await checkpoints.finished()
        assert (second.number, second.unsettled) == (1, True)


@pytest.mark.parametrize("what", ["no workspace", "bound", "none wanted"])
async def test_there_is_none_where_there_is_nothing_to_keep(tmp_path, what):
    if what != "no workspace":
        (tmp_path / "workspace" / "tree").mkdir(parents=True)
    if what == "bound":
        (tmp_path / "workspace.bound").write_bytes(b"/somewhere")
    limits = Limits(checkpoints=0 if what == "none wanted" else 5)
    async with checkpointing(tmp_path, limits) as checkpoints:
        assert checkpoints is None
