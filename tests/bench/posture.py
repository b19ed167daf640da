"""What it costs to measure a container before its first use, beside opening it.

All of `verify` is counted, and asked for anew each time: looking up what is remembered, the question to init
and its answer, the comparison. A session hides most of that behind the engine's own answer to the start.
"""

from __future__ import annotations

import contextlib
import time

from sandbox import SandboxSpec, open_sandbox
from sandbox.engine import Engine
from sandbox.lifecycle.launching import launch
from sandbox.lifecycle.prepared import prepare
from sandbox.posture import expected, verify
from sandbox.posture.check import measure as probe
from sandbox.posture.check import refuse
from sandbox.posture.compare import differences, questions
from sandbox.posture.remembered import key
from tests.bench.figure import Beside, Figure, NotMeasured, Target
from tests.bench.place import Bench, connected
from tests.bench.sampling import Contender, interleaved


async def measure(bench: Bench) -> list[Figure]:
    spec = SandboxSpec(policy=bench.policy)
    async with contextlib.AsyncExitStack() as stack:
        engine = await stack.enter_async_context(connected())
        prepared = await prepare(stack, spec, engine, storage=False)
        box = await launch(prepared, engine)
        stack.push_async_callback(box.close)
        want = expected(prepared.policy, prepared.config, prepared.runtime)
        known = key(prepared.policy, prepared.config, prepared.runtime, prepared.init, await engine.about())

        async def cold() -> float:
            started = time.perf_counter()
            refuse(differences(want, await probe(box, questions(want))))
            return time.perf_counter() - started

        async def cached() -> float:
            started = time.perf_counter()
            if not (await verify(box, want, known)).cached:
                raise NotMeasured("the posture was not remembered")
            return time.perf_counter() - started

        async def whole() -> float:
            return await opened(spec, engine)

        first, again, session = await interleaved(
            bench.count(20, 3),
            Contender("usermode, measured", cold),
            Contender("usermode, remembered", cached, each=10),
            Contender("a whole cold session", whole),
        )
    return [
        Figure("posture, measured", first, Target(150e-3), (Beside(session),)),
        Figure("posture, remembered", again, Target(1e-3), (Beside(session),)),
    ]


async def opened(spec: SandboxSpec, engine: Engine) -> float:
    started = time.perf_counter()
    async with open_sandbox(spec, engine=engine):
        return time.perf_counter() - started
