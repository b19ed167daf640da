"""Commands a second, eight at once in one container."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial

from sandbox import SandboxSpec, open_sandbox
from tests.bench.exec_latency import docker_exec
from tests.bench.figure import Beside, Figure, Target
from tests.bench.place import Bench, sdk, true
from tests.bench.sampling import Contender, interleaved

AT_ONCE = 8


async def measure(bench: Bench) -> list[Figure]:
    with ExitStack() as stack:
        # The SDK's client is not thread-safe: one each.
        clients = [stack.enter_context(sdk()) for _ in range(AT_ONCE)]
        threads = stack.enter_context(ThreadPoolExecutor(AT_ONCE))
        async with open_sandbox(SandboxSpec(policy=bench.policy)) as box:

            async def ours(worker: int) -> None:
                await true(box)

            async def theirs(worker: int) -> None:
                work = partial(docker_exec, clients[worker], box.ref)
                await asyncio.get_running_loop().run_in_executor(threads, work)

            wire, by_docker = await interleaved(
                bench.count(10, 2),
                Contender("usermode", partial(rate, ours, bench.count(100, 25)), unit="1/s"),
                Contender("docker exec (SDK)", partial(rate, theirs, bench.count(3, 1)), unit="1/s"),
            )
    target = Target(1000, at_least=True)
    return [Figure(f"execs a second, {AT_ONCE} at once in one container", wire, target, (Beside(by_docker),))]


async def rate(work: Callable[[int], Awaitable[None]], each: int) -> float:
    """Calls a second of AT_ONCE workers that make `each` calls, one after the other."""

    async def worker(number: int) -> None:
        for _ in range(each):
            await work(number)

    started = time.perf_counter()
    try:
        async with asyncio.TaskGroup() as group:
            for number in range(AT_ONCE):
                group.create_task(worker(number))
    except ExceptionGroup as failed:
        # What went wrong for one of them is what is told; the others were cancelled or met the same.
        raise failed.exceptions[0] from failed
    return AT_ONCE * each / (time.perf_counter() - started)
