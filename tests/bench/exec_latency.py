"""`true`, there and back: over the wire, by `docker exec` into the very same container, and without any."""

from __future__ import annotations

import os
import time
from typing import Any

from sandbox import SandboxSpec, open_sandbox
from tests.bench.figure import Beside, Figure, NotMeasured, Target
from tests.bench.place import Bench, sdk, true
from tests.bench.sampling import Contender, blocking, interleaved, single


async def measure(bench: Bench) -> list[Figure]:
    cpu: list[float] = []
    with sdk() as client:
        async with open_sandbox(SandboxSpec(policy=bench.policy)) as box:

            async def ours() -> float:
                burned, started = time.process_time(), time.perf_counter()
                await true(box)
                took = time.perf_counter() - started
                cpu.append(time.process_time() - burned)
                return took

            wire, by_docker, floor = await interleaved(
                bench.count(40, 3),
                Contender("usermode", ours, each=25),
                Contender("docker exec (SDK)", blocking(lambda: docker_exec(client, box.ref))),
                Contender("fork+exec on the host", blocking(on_the_host), each=25),
            )
    return [
        Figure(
            "exec `true`, round trip",
            wire,
            Target(1.0e-3),
            (Beside(by_docker, most=1 / 50), Beside(floor)),
        ),
        Figure("exec `true`, CPU of the host's process", single("usermode", cpu)),
    ]


def docker_exec(client: Any, container: str) -> None:
    """Without asking for the exit code, which ours knows and here would be one more request."""
    started = client.exec_create(container, ["true"])
    client.exec_start(started["Id"])


def on_the_host() -> None:
    process = os.posix_spawn("/bin/true", ["true"], {})
    if os.waitpid(process, 0)[1] != 0:
        raise NotMeasured("/bin/true failed on the host")
