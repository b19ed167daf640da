"""A fork of a workspace up to its first call, beside a cold session that copies the same directory in.

Timed is all that comes before the call: sharing the checkpoints, the promise on the disk, the container, and
the files, which are made while it starts.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from dataclasses import replace
from pathlib import Path

from harness.kernel.checkpointing import checkpointing
from policies import Policy
from sandbox import Command, SandboxSpec, open_sandbox
from sandbox.checkpoints.damage import refuse_damaged
from sandbox.checkpoints.packs import sync_directory
from sandbox.checkpoints.planting import promise
from sandbox.checkpoints.share import link
from sandbox.checkpoints.store import DIRECTORY, Store
from sandbox.engine import Engine
from sandbox.workspace.quota import remove
from tests.bench.figure import Beside, Figure, NotMeasured
from tests.bench.place import Bench, connected, true
from tests.bench.sampling import Contender, interleaved
from tests.bench.workspace import make_tree

FILES, BYTES = 1_000, 10_000_000


async def measure(bench: Bench) -> list[Figure]:
    with bench.directory() as scratch:
        project, source = scratch / "project", scratch / "source"
        await asyncio.to_thread(make_tree, project, FILES, BYTES)
        os.sync()
        async with connected() as engine, contextlib.AsyncExitStack() as stack:
            spec = SandboxSpec(policy=bench.policy, workspace=project, state=source)
            await stack.enter_async_context(open_sandbox(spec, engine=engine))
            checkpoints = await stack.enter_async_context(checkpointing(source, bench.policy.limits))
            assert checkpoints is not None
            checkpoints.begin(unsettled=False)
            await checkpoints.finished()
            number = iter(range(10**6))

            async def spawned() -> float:
                state = scratch / f"child{next(number)}"
                state.mkdir()
                started = time.perf_counter()
                await checkpoints.snapshot(state, bench.policy.limits)
                return await first_call(replace(spec, state=state, reopen=True), engine, started)

            async def forked() -> float:
                state = scratch / f"fork{next(number)}"
                started = time.perf_counter()
                await asyncio.to_thread(_share, source, state, bench.policy)
                return await first_call(replace(spec, state=state, reopen=True), engine, started)

            async def cold() -> float:
                started = time.perf_counter()
                state = scratch / f"cold{next(number)}"
                return await first_call(replace(spec, state=state), engine, started)

            children, forks, beside = await interleaved(
                bench.count(10, 2),
                Contender("a child's (`spawn`)", spawned),
                Contender("`usermode fork`", forked),
                Contender("cold session", cold),
            )
        await asyncio.to_thread(remove, source)
    title = f"fork of {FILES:,} files to its first call"
    return [
        Figure(f"{title}, running", children, None, (Beside(beside, most=1.3),)),
        Figure(f"{title}, from a session at rest", forks, None, (Beside(beside, most=1.3),)),
    ]


def _share(source: Path, state: Path, policy: Policy) -> None:
    """What `usermode fork` does, but for the journal."""
    state.mkdir()
    link(source, state, [0])
    with Store(state) as store:
        target = store.load(0)
        refuse_damaged(store, target, "")
    promise(state, source, target, policy.limits, lasting=True)
    sync_directory(state / DIRECTORY)


async def first_call(spec: SandboxSpec, engine: Engine, started: float) -> float:
    """Until a first command has run, from `started` on. Removing it all is not timed."""
    async with open_sandbox(spec, engine=engine) as box:
        await true(box)
        took = time.perf_counter() - started
        found = await box.run(Command(("sh", "-c", "find /workspace -type f | wc -l")))
        if int(found.stdout) != FILES:
            raise NotMeasured(f"the workspace has {found.stdout!r} files instead of {FILES}")
    assert spec.state is not None
    await asyncio.to_thread(remove, spec.state)
    return took
