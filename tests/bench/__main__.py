"""`python -m tests.bench [--quick] [--only NAME …] [--strict] [--json PATH]`: measure, print, write JSON.

Exit 0 when everything could be measured, whatever came out; 1 when something could not, or, with `--strict`,
when a target was not met.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from sandbox.errors import SandboxError
from tests.bench import (
    checkpoints,
    command_line,
    decisions,
    egress,
    exec_latency,
    exec_throughput,
    files,
    flood,
    forks,
    gvisor,
    idle,
    memory,
    posture,
    recall_probes,
    report,
    resume,
    session_start,
    streams,
    turns,
    workspace,
)
from tests.bench.figure import Figure, NotMeasured
from tests.bench.place import BUILD, Bench

BENCHMARKS: dict[str, Callable[[Bench], Awaitable[list[Figure]]]] = {
    # First: memory that others gave back to this process would hide what it grows by.
    "flood": flood.measure,
    "exec": exec_latency.measure,
    "throughput": exec_throughput.measure,
    "files": files.measure,
    "start": session_start.measure,
    "posture": posture.measure,
    "streams": streams.measure,
    "egress": egress.measure,
    "turns": turns.measure,
    "memory": memory.measure,
    "resume": resume.measure,
    "recall": recall_probes.measure,
    "idle": idle.measure,
    "workspace": workspace.measure,
    "checkpoints": checkpoints.measure,
    "forks": forks.measure,
    "cli": command_line.measure,
    "decisions": decisions.measure,
    "gvisor": gvisor.measure,
}

BUSY = 0.7
"""Processes that wanted to run, on average over the last minute."""


@dataclass
class Run:
    bench: Bench
    out: Path
    figures: dict[str, list[Figure]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    async def all(self, names: list[str]) -> None:
        facts = {**report.machine(), "quick": self.bench.quick}
        load = facts["load"]
        if load > BUSY:
            print(f"The machine was busy just now (load {load:.1f}): believe the ratios alone.\n")
        print(f"  {'':<26} {'median':>9}  {'p10 – p90':<21} {'ours is':>8}  target")
        for name in names:
            try:
                figures = await BENCHMARKS[name](self.bench)
            except (NotMeasured, SandboxError, OSError, subprocess.SubprocessError) as error:
                self.missing[name] = f"{type(error).__name__}: {error}"
                print(f"{name}: not measured: {error}", flush=True)
            else:
                self.figures[name] = figures
                print("\n".join(line for figure in figures for line in report.lines(figure)), flush=True)
            # After each, so that what is known outlives an interrupt.
            report.save(self.out, report.document(self.figures, self.missing, facts))

    @property
    def unmet(self) -> list[str]:
        return [figure.title for group in self.figures.values() for figure in group if figure.met is False]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--quick", action="store_true", help="few samples: shows that it works, not how well")
    parser.add_argument("--strict", action="store_true", help="exit 1 when a target is not met")
    parser.add_argument("--json", type=Path, default=BUILD / "bench.json", metavar="PATH")
    options = parser.parse_args()
    run = Run(Bench(options.quick), options.json)
    asyncio.run(run.all([name for name in BENCHMARKS if not options.only or name in options.only]))
    print(f"\nwritten to {os.path.relpath(options.json)}")
    for title in run.unmet:
        print(f"not met: {title}")
    return 1 if run.missing or (options.strict and run.unmet) else 0


if __name__ == "__main__":
    sys.exit(main())
