"""A command that prints a gigabyte: what it costs this process in memory, and the command in time."""

from __future__ import annotations

import gc
import time
from pathlib import Path

from sandbox import Command, SandboxSpec, open_sandbox
from sandbox.protocol import Sandbox
from tests.bench.figure import Beside, Figure, NotMeasured, Target
from tests.bench.place import Bench
from tests.bench.sampling import Contender, interleaved, single

SIZE = 1_000_000_000
SHELL = f"yes usermode | head -c {SIZE}"


async def measure(bench: Bench) -> list[Figure]:
    grown: list[float] = []
    async with open_sandbox(SandboxSpec(policy=bench.policy)) as box:

        async def printed() -> float:
            gc.collect()
            before = reset_peak()
            took = await _run(box, SHELL, SIZE)
            grown.append(float(peak_rss() - before))
            return took

        async def to_nowhere() -> float:
            return await _run(box, f"{SHELL} > /dev/null", 0)

        async def to_a_reader() -> float:
            return await _run(box, f"{SHELL} | cat > /dev/null", 0)

        ours, quiet, read = await interleaved(
            bench.count(5, 1),
            Contender("captured", printed),
            Contender("> /dev/null", to_nowhere),
            # A file swallows it for nothing; this is what any reader of a pipe costs it.
            Contender("| cat > /dev/null", to_a_reader),
        )
    return [
        Figure(
            "a command that prints 1 GB, memory of this process",
            # Of every round, the first included: a process grows once.
            single("growth at its peak", grown, "B"),
            Target(16e6, of="worst"),
        ),
        Figure("a command that prints 1 GB, time", ours, None, (Beside(quiet, most=2), Beside(read))),
    ]


async def _run(box: Sandbox, shell: str, size: int) -> float:
    started = time.perf_counter()
    done = await box.run(Command(("sh", "-c", shell)))
    took = time.perf_counter() - started
    if done.stdout_total != size:
        raise NotMeasured(f"{done.stdout_total} bytes came of {size}: {done.stderr!r}")
    return took


def reset_peak() -> int:
    """Forget this process's peak; returns what it holds now, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak_rss()


def peak_rss() -> int:
    return _status("VmHWM")


def rss() -> int:
    return _status("VmRSS")


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise NotMeasured(f"this kernel does not tell {name}")
