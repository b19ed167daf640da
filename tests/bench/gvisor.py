"""What gVisor costs, beside runc: sessions, commands, files. Nothing where the engine has none to use."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable

from sandbox import SandboxSpec, open_sandbox
from sandbox.errors import SandboxRefused
from sandbox.lifecycle.pool import SandboxPool
from sandbox.protocol import Command, Sandbox
from sandbox.runtime import usable
from tests.bench.figure import Beside, Figure, NotMeasured
from tests.bench.place import Bench, connected, true
from tests.bench.sampling import Contender, interleaved
from tests.bench.session_start import cold, warm

FORTY = Command(
    ("sh", "-c", "for i in 1 2 3 4 5 6 7 8; do ls / /usr /etc | sort | tail -n 1 >/dev/null; done")
)
"""Processes that make processes, as a build does."""


async def measure(bench: Bench) -> list[Figure]:
    policy = bench.policy
    on_gvisor, on_runc = (
        SandboxSpec(policy=policy, runtime="runsc"),
        SandboxSpec(policy=policy, runtime="runc"),
    )
    async with contextlib.AsyncExitStack() as stack:
        engine = await stack.enter_async_context(connected())
        try:
            await usable(engine, "runsc", policy)
        except SandboxRefused:
            return []
        pool = await stack.enter_async_context(SandboxPool(on_gvisor, 1, engine=engine))
        starts = await interleaved(
            bench.count(10, 2),
            Contender("gVisor", lambda: cold(on_gvisor, engine)),
            Contender("runc", lambda: cold(on_runc, engine)),
            Contender("gVisor, warm", lambda: warm(pool)),
        )
        boxes = [
            await stack.enter_async_context(open_sandbox(one, engine=engine)) for one in (on_gvisor, on_runc)
        ]
        for box in boxes:
            await box.write_file("/tmp/file", bytes(10_000))
        figures = [
            Figure("gVisor: cold session", starts[0], None, (Beside(starts[1]),)),
            Figure("gVisor: warm session", starts[2], None, (Beside(starts[0]),)),
        ]
        for title, work in (("`true`", _true), ("40 processes", _forty), ("read of 10 kB", _read)):
            ours, theirs = await interleaved(
                bench.count(30, 2),
                *(
                    Contender(name, timed(work, box))
                    for name, box in zip(("gVisor", "runc"), boxes, strict=True)
                ),
            )
            figures.append(Figure(f"gVisor: {title}", ours, None, (Beside(theirs),)))
        return figures


async def _true(box: Sandbox) -> None:
    await true(box)


async def _forty(box: Sandbox) -> None:
    done = await box.run(FORTY)
    if done.exit_code != 0:
        raise NotMeasured(f"the processes ended with {done.exit_code}: {done.stderr!r}")


async def _read(box: Sandbox) -> None:
    await box.read_file("/tmp/file")


def timed(work: Callable[[Sandbox], Awaitable[None]], box: Sandbox) -> Callable[[], Awaitable[float]]:
    async def once() -> float:
        started = time.perf_counter()
        await work(box)
        return time.perf_counter() - started

    return once
