"""More memory and processes for a container that runs: what failed for want of them works, and no more."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from conftest import RUNTIME, Opener, policy_with

from policies.schema import Limits
from sandbox import Command, Completed, Sandbox, SandboxSpec, attach_sandbox, open_sandbox
from sandbox.errors import SandboxRefused

pytestmark = pytest.mark.docker

EATS = "import sys; x = b'x' * (300 << 20); print(len(x) >> 20)"
FORKS = """
import os, signal
children = []
try:
    for _ in range(100):
        children.append(os.fork())
        if children[-1] == 0:
            signal.pause()
except BlockingIOError:
    pass
print(len(children))
for child in children:
    os.kill(child, signal.SIGKILL)
"""
QUOTA = "cut -d ' ' -f 1 /sys/fs/cgroup/cpu.max 2>/dev/null || cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us"
SMALL = {"memory_mb": 200, "pids": 64, "cpus": 0.5, "grace_s": 0.5}


async def run(box: Sandbox, *argv: str) -> Completed:
    return await box.run(Command(argv, cwd="/tmp", timeout_s=60))


def more(**limits: float) -> Limits:
    return Limits.model_validate({**policy_with(**SMALL).limits.model_dump(), **limits})


@pytest.fixture
async def small(open_box: Opener) -> AsyncIterator[Sandbox]:
    async with open_box(**SMALL) as one:
        yield one


@pytest.mark.skipif(RUNTIME != "runc", reason="gVisor has no way to give more; the next test is about that")
async def test_what_failed_for_want_of_memory_or_processes_works_once_there_is_more() -> None:
    spec = SandboxSpec(policy=policy_with(**SMALL))
    async with open_sandbox(spec) as box:
        assert box.adjustable == {"memory_mb", "pids", "cpus"}
        starved = await run(box, "python3", "-c", EATS)
        assert (starved.exit_code, starved.oom_killed) == (137, True)
        assert int((await run(box, "python3", "-c", FORKS)).stdout) < 64
        await box.adjust(more(memory_mb=600, pids=200, cpus=1.5))
        fed = await run(box, "python3", "-c", EATS)
        assert (fed.exit_code, fed.stdout) == (0, b"300\n")
        assert (await run(box, "python3", "-c", FORKS)).stdout == b"100\n"
        assert (await run(box, "sh", "-c", QUOTA)).stdout == b"150000\n"
        # What was given is a limit like the one before it, and nobody inside can change it.
        greedy = await run(box, "python3", "-c", EATS.replace("300", "900"))
        assert (greedy.exit_code, greedy.oom_killed) == (137, True)
        # Another harness that takes the container over finds it so.
        ref = await box.detach()
    async with attach_sandbox(ref) as again:
        assert (await run(again, "python3", "-c", EATS)).stdout == b"300\n"
        await again.adjust(more())
        assert (await run(again, "python3", "-c", EATS)).oom_killed


@pytest.mark.skipif(RUNTIME != "runc", reason="gVisor has no way to give more; the next test is about that")
async def test_what_the_engine_does_not_take_leaves_everything_as_it_was(small: Sandbox) -> None:
    with pytest.raises(SandboxRefused, match="the engine refused"):
        await small.adjust(more(memory_mb=16).model_copy(update={"memory_mb": 1}))
    assert (await run(small, "python3", "-c", EATS.replace("300", "50"))).stdout == b"50\n"


@pytest.mark.skipif(RUNTIME != "runsc", reason="there it can be given; the first test is about that")
async def test_gvisor_says_that_it_gives_no_more(small: Sandbox) -> None:
    assert small.adjustable == frozenset()
    with pytest.raises(SandboxRefused, match="gVisor"):
        await small.adjust(more(memory_mb=600))
