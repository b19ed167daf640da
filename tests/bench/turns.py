"""Kernel overhead a turn: the real loop and a real journal, with a model and a tool that take no time.

A turn is one reply and one call of a tool, whose entries are on the disk before the loop goes on. Between two
turns the same bytes are written and flushed in as many pieces, with no kernel around them: what the disk
alone costs.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

from harness.approvals.grants import Grants
from harness.approvals.service import Approvals
from harness.budget import Budget, allowance
from harness.calls import Devices
from harness.events import Entry
from harness.interrupt import Interrupt
from harness.journal import Journal
from harness.kernel import Kernel, run_turn
from harness.prompt import system_prompt
from harness.providers.base import Delta, Request
from harness.providers.scripted import ScriptedProvider
from harness.record import FILE, Record
from harness.recorder import Recorder
from harness.session import Session
from policies.schema import Limits, Policy, Rule
from sandbox.memory import MemorySandbox
from tests.bench.figure import Beside, Figure, NotMeasured, Target
from tests.bench.place import Bench
from tests.bench.sampling import Series

LIMIT_S = 3e-3
FLAT = 1.3
"""The last turns to the first."""
LINES = 100


@dataclass
class MeteredJournal:
    """The journal, and how many bytes each append since the last turn brought to the disk."""

    journal: Journal
    file: Path
    appended: list[int] = field(default_factory=list)
    size: int = 0

    async def append_many(
        self, entries: Sequence[Entry], told: Callable[[Sequence[Record]], object]
    ) -> list[Record]:
        records = await self.journal.append_many(entries, told)
        size = self.file.stat().st_size
        self.appended.append(size - self.size)
        self.size = size
        return records


@dataclass
class Stopwatch:
    """A provider that notes when it is asked: from one question to the next is a turn."""

    inner: ScriptedProvider
    journal: MeteredJournal
    bare: Path
    turns: list[float] = field(default_factory=list)
    disk: list[float] = field(default_factory=list)
    _asked: float = 0.0
    name: str = "scripted"
    model: str = "bench"

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        now = time.perf_counter()
        if self._asked:
            self.turns.append(now - self._asked)
            self.disk.append(await asyncio.to_thread(_flushed, self.bare, self.journal.appended))
        self.journal.appended.clear()
        self._asked = time.perf_counter()
        async with aclosing(self.inner.stream(request)) as deltas:
            async for delta in deltas:
                yield delta

    async def aclose(self) -> None:
        await self.inner.aclose()


async def measure(bench: Bench) -> list[Figure]:
    window = bench.count(200, 50)
    late = bench.count(10_000, 350) - window
    watch = await asyncio.wait_for(_session(bench, late + window), 600)
    figures: list[Figure] = []
    for first in (10, late):
        # Each turn has its own bare flushes beside it: a round of one.
        turns = Series(f"from turn {first:,}", tuple((one,) for one in watch.turns[first - 1 :][:window]))
        disk = Series("its flushes alone", tuple((one,) for one in watch.disk[first - 1 :][:window]))
        beside = [Beside(disk), *(Beside(figure.ours, FLAT) for figure in figures)]
        title = f"kernel overhead a turn, {window} turns from turn {first:,}"
        figures.append(Figure(title, turns, Target(LIMIT_S), tuple(beside)))
    return figures


async def _session(bench: Bench, turns: int) -> Stopwatch:
    policy = Policy(
        name="bench",
        limits=Limits(turns=turns + 10, tokens=10**12, context_tokens=10**9),
        rules=(Rule(syscall="*", action="allow", reason="Nothing here has an effect."),),
    )
    replies = [_reply(number) for number in range(turns + 1)]
    text = "".join(f"line {number}\n" for number in range(LINES))
    with bench.directory() as scratch:
        journal = Journal.create(scratch / "session")
        metered = MeteredJournal(journal, journal.directory / FILE)
        try:
            async with MemorySandbox(policy=policy, files={"/workspace/notes.txt": text}) as box:
                recorder = Recorder(metered, lambda event: None)
                approvals = Approvals(recorder, Grants(recorder), policy.sudo.timeout_s)
                devices = Devices(box, policy, recorder, Interrupt(), approvals, watched=False)
                watch = Stopwatch(ScriptedProvider([*replies, "done"]), metered, scratch / "bare")
                kernel = Kernel(watch, devices, lambda usage: 0.0, system_prompt(policy))
                ended = await run_turn(kernel, Session(Budget(allowance(policy.limits))), "read the notes")
        finally:
            journal.close()
    if ended.status != "done" or len(watch.turns) < turns:
        raise NotMeasured(f"the session ended {ended.status} after {len(watch.turns)} turns: {ended.reason}")
    return watch


def _reply(number: int) -> dict[str, object]:
    # Never the same twice in a row: a model that goes in circles is stopped.
    arguments = {"path": "/workspace/notes.txt", "offset": number % LINES + 1, "limit": 5}
    return {"text": f"Step {number}.", "calls": [{"name": "read", "arguments": arguments}]}


def _flushed(path: Path, sizes: Sequence[int]) -> float:
    """Seconds to append as many bytes in as many flushes, in the thread that does it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        started = time.perf_counter()
        for size in sizes:
            os.write(descriptor, b"x" * size)
            os.fdatasync(descriptor)
        return time.perf_counter() - started
    finally:
        os.close(descriptor)
