"""Idle sessions: memory that each holds in its container, and in this process."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from pathlib import Path

from sandbox import SandboxSpec, open_sandbox
from sandbox.engine import Engine
from tests.bench.figure import Figure, NotMeasured, Target
from tests.bench.flood import rss
from tests.bench.place import Bench, connected, true
from tests.bench.sampling import single

AT_ONCE = 2
QUIET_S = 2.0
"""Until what the start and the first command leave behind has been given back."""


async def measure(bench: Bench) -> list[Figure]:
    count = bench.count(50, 4)
    spec = SandboxSpec(policy=bench.policy)
    async with connected() as engine, contextlib.AsyncExitStack() as stack:
        # The first one brings in what is needed once.
        await true(await stack.enter_async_context(open_sandbox(spec, engine=engine)))
        gc.collect()
        before = rss()
        refs: list[str] = []
        for _ in range(0, count, AT_ONCE):
            boxes = [open_sandbox(spec, engine=engine) for _ in range(AT_ONCE)]
            opened = await asyncio.gather(*(box.__aenter__() for box in boxes))
            for context in boxes:
                stack.push_async_exit(context.__aexit__)
            for box in opened:
                await true(box)
                refs.append(box.ref)
        await asyncio.sleep(QUIET_S)
        gc.collect()
        grown = (rss() - before) / len(refs)
        held = [await _held(engine, ref) for ref in refs]
    return [
        Figure(
            f"idle session, memory in the container, {len(refs)} of them",
            single("usermode", held, "B"),
            Target(2e6, of="worst"),
        ),
        Figure(
            f"idle session, memory of this process, {len(refs)} of them",
            single("usermode", [grown], "B"),
            Target(1e6),
        ),
    ]


async def _held(engine: Engine, ref: str) -> float:
    pid = (await engine.inspect(ref))["State"]["Pid"]
    return float(await asyncio.to_thread(_memory_of, int(pid)))


def _memory_of(pid: int) -> int:
    """Bytes charged to the control group that a process is in."""
    groups = {}
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        groups.update(dict.fromkeys(controllers.split(","), path))
    if "memory" in groups:
        place = Path("/sys/fs/cgroup/memory", groups["memory"].lstrip("/"), "memory.usage_in_bytes")
    else:
        place = Path("/sys/fs/cgroup", groups[""].lstrip("/"), "memory.current")
    try:
        return int(place.read_text())
    except FileNotFoundError:
        raise NotMeasured(f"the container's control group is not visible from here: {place}") from None
