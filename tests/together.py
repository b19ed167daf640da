"""The contract with one sandbox for many checks: for where the making of the sandbox is under test.

Its tables fill, and nothing may leak between the checks. Two of them can be in each other's way (both want
one port): what goes wrong is tried again in a sandbox of its own, as is what wants one nobody has used.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from sandbox import Command, Sandbox
from sandbox.conformance import Check, OpenSandbox, run_all

JOBS_END_S = 20
"""A check leaves nothing running for longer."""


async def complaints(open: OpenSandbox, checks: Iterable[Check], *, at_once: int) -> list[tuple[str, str]]:
    """What is not kept. AssertionError when the shared sandbox did not outlive its checks."""
    every = list(checks)
    alone = [one for one in every if one.id.startswith("box.")]
    slots = asyncio.Semaphore(at_once)
    async with open() as box:

        async def shared(one: Check) -> None:
            async with slots:
                if not await kept(one, box):
                    alone.append(one)

        await asyncio.gather(*(shared(one) for one in every if one not in alone))
        assert (await box.run(Command(("echo", "still there"), cwd="/"))).stdout == b"still there\n"
        for job in await box.jobs():
            await box.kill(job)
        async with asyncio.timeout(JOBS_END_S):
            while await box.jobs():
                await asyncio.sleep(0.1)
    assert len(alone) < max(5, len(every) / 4), [one.id for one in alone]
    outcomes = await run_all(open, alone, at_once=at_once)
    return [(one.id, one.detail) for one in outcomes if one.status != "kept"]


async def kept(one: Check, box: Sandbox) -> bool:
    try:
        await one.run(box)
    except Exception:  # noqa: BLE001 - heard again alone, whatever it was
        return False
    return True
