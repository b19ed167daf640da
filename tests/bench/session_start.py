"""Cold and warm sessions up to a first result, and the SDK's bare start of the same container."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Mapping
from typing import Any

from docker.errors import APIError, NotFound

from sandbox import SandboxSpec, open_sandbox
from sandbox.engine import Engine
from sandbox.lifecycle.pool import SandboxPool
from sandbox.lifecycle.prepared import prepare
from tests.bench.figure import Beside, Figure, NotMeasured, Target
from tests.bench.place import Bench, connected, sdk, true
from tests.bench.sampling import Contender, interleaved

GONE_S = 30


async def measure(bench: Bench) -> list[Figure]:
    spec = SandboxSpec(policy=bench.policy)
    async with contextlib.AsyncExitStack() as stack:
        engine = await stack.enter_async_context(connected())
        client = stack.enter_context(sdk())
        # The very configuration our sessions get, our init as PID 1 and all; nobody speaks to it.
        config = (await prepare(stack, spec, engine, storage=False)).config
        pool = await stack.enter_async_context(SandboxPool(spec, 1, engine=engine))

        async def cold_start() -> float:
            return await cold(spec, engine)

        async def bare_start() -> float:
            return await bare(client, config)

        async def warm_start() -> float:
            return await warm(pool)

        ours, theirs, from_pool = await interleaved(
            bench.count(20, 3),
            Contender("usermode", cold_start),
            Contender("create + start (SDK)", bare_start),
            Contender("usermode, warm", warm_start),
        )
    return [
        Figure("cold session to its first result", ours, None, (Beside(theirs, most=1.1),)),
        Figure("warm session to its first result", from_pool, Target(10e-3), (Beside(ours),)),
    ]


async def cold(spec: SandboxSpec, engine: Engine) -> float:
    started = time.perf_counter()
    async with open_sandbox(spec, engine=engine) as box:
        await true(box)
        return time.perf_counter() - started


async def warm(pool: SandboxPool) -> float:
    await _full(pool)
    started = time.perf_counter()
    async with pool.open() as box:
        await true(box)
        took = time.perf_counter() - started
    # The next one to be measured does not share the machine with the start of this one's successor.
    await _full(pool)
    return took


async def bare(client: Any, config: Mapping[str, Any]) -> float:
    """Create and start, through the SDK alone. Removing it is not timed."""
    name = f"usermode-bench-{secrets.token_hex(4)}"
    started = time.perf_counter()
    container = client.create_container_from_config(dict(config), name)["Id"]
    try:
        client.start(container)
        return time.perf_counter() - started
    finally:
        await _remove(client, container)


async def _remove(client: Any, container: str) -> None:
    try:
        client.remove_container(container, force=True, v=True)
    except APIError as error:
        if error.status_code not in (404, 409):
            raise
    async with asyncio.timeout(GONE_S):
        while True:
            try:
                client.inspect_container(container)
            except NotFound:
                return
            await asyncio.sleep(0.01)


async def _full(pool: SandboxPool) -> None:
    try:
        async with asyncio.timeout(GONE_S):
            while not pool.ready:
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise NotMeasured("the pool did not fill up again") from None
