"""Kernel overhead a turn: the real loop and a real journal, with a model and a tool that take no time.

A turn is one reply and one call of a tool, whose entries are on the disk before the loop goes on. Between two
turns the same bytes are written and flushed in as many pieces, with no kernel around them: what the disk
alone costs.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.approvals.grants import Grants
from harness.approvals.service import Approvals
from harness.events import Entry
from harness.journal.record import FILE, Record
from harness.journal.writer import Journal
from harness.kernel.calls import Devices
from harness.kernel.loop import Kernel, run_turn
from harness.messages import Call, Message, Text, Usage
from harness.process.budget import Budget, allowance
from harness.process.interrupt import Interrupt
from harness.process.recorder import Recorder
from harness.process.session import Session
from harness.prompt import system_prompt
from harness.provider import Delta, Reply, Request, TextDelta
from policies.schema import Limits, Policy, Rule
from sandbox.memory import MemorySandbox
from tests.bench.figure import Beside, Figure, NotMeasured, Target
from tests.bench.place import Bench
from tests.bench.sampling import Series

LIMIT_S = 3e-3
FLAT = 1.3
"""The last turns to the first."""
FIRST = 10
STEP = 20
"""Turns in a round."""
LINES = 100
DONE = Message(role="assistant", parts=(Text(text="done"),))
NEW = 60
"""Tokens that the model says it was sent anew, about what a turn adds."""


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
    """A model that takes the same time however long the conversation is, and notes when it is asked: from
    one question to the next is a turn.
    """

    replies: int
    journal: MeteredJournal
    bare: Path
    before: Callable[[int], Awaitable[None]]
    turns: list[float] = field(default_factory=list)
    disk: list[float] = field(default_factory=list)
    _asked: float = 0.0
    name: str = "bench"
    model: str = "bench"

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        now = time.perf_counter()
        if self._asked:
            self.turns.append(now - self._asked)
            self.disk.append(await asyncio.to_thread(_flushed, self.bare, self.journal.appended))
        number = len(self.turns)
        await self.before(number)
        self.journal.appended.clear()
        reply = (
            _reply(number) if number < self.replies else Message(role="assistant", parts=(Text(text="done"),))
        )
        self._asked = time.perf_counter()
        for piece in ("Step ", f"{number}", "."):
            yield TextDelta(piece)
            await asyncio.sleep(0)
        usage = Usage(input_tokens=NEW, output_tokens=NEW // 2, cache_read_tokens=NEW * number)
        yield Reply(reply, usage, "calls" if number < self.replies else "end")

    async def aclose(self) -> None:
        return None


async def measure(bench: Bench) -> list[Figure]:
    rounds = bench.count(10, 3)
    late = bench.count(10_000, 350) - rounds * STEP
    young: list[Stopwatch] = []

    async def another(number: int) -> None:
        """A session that has just begun, in turns with the old one: the machine's speed drifts within one."""
        if number >= late and (number - late) % STEP == 0:
            young.append(await _session(bench, FIRST + STEP))

    old = await asyncio.wait_for(_session(bench, late + rounds * STEP, another), 600)
    begun = [(watch, FIRST) for watch in young[:rounds]]
    figures: list[Figure] = []
    for name, windows in (
        (f"from turn {FIRST}", begun),
        (f"from turn {late:,}", [(old, late + number * STEP) for number in range(rounds)]),
    ):
        turns = Series(name, tuple(tuple(watch.turns[first:][:STEP]) for watch, first in windows))
        disk = Series(
            "its flushes alone", tuple(tuple(watch.disk[first:][:STEP]) for watch, first in windows)
        )
        beside = [Beside(disk), *(Beside(figure.ours, FLAT) for figure in figures)]
        title = f"kernel overhead a turn, {rounds * STEP} turns {name}"
        figures.append(Figure(title, turns, Target(LIMIT_S), tuple(beside)))
    return figures


async def _nothing(number: int) -> None:
    return None


async def _session(
    bench: Bench, turns: int, before: Callable[[int], Awaitable[None]] = _nothing
) -> Stopwatch:
    """`before` is awaited before each turn, and is no part of it."""
    policy = Policy(
        name="bench",
        limits=Limits(turns=turns + 10, tokens=10**12, context_tokens=10**9),
        rules=(Rule(syscall="*", action="allow", reason="Nothing here has an effect."),),
    )
    text = "".join(f"line {number}\n" for number in range(LINES))
    with bench.directory() as scratch:
        journal = Journal.create(scratch / "session")
        metered = MeteredJournal(journal, journal.directory / FILE)
        try:
            async with MemorySandbox(policy=policy, files={"/workspace/notes.txt": text}) as box:
                recorder = Recorder(metered, lambda event: None)
                approvals = Approvals(recorder, Grants(recorder), policy.sudo.timeout_s)
                devices = Devices(box, policy, recorder, Interrupt(), approvals, watched=False)
                watch = Stopwatch(turns + 1, metered, scratch / "bare", before)
                kernel = Kernel(watch, devices, lambda usage: 0.0, system_prompt(policy))
                ended = await run_turn(kernel, Session(Budget(allowance(policy.limits))), "read the notes")
        finally:
            journal.close()
    if ended.status != "done" or len(watch.turns) < turns:
        raise NotMeasured(f"the session ended {ended.status} after {len(watch.turns)} turns: {ended.reason}")
    return watch


def _reply(number: int) -> Message:
    # Never the same twice in a row: a model that goes in circles is stopped.
    arguments = {"path": "/workspace/notes.txt", "offset": number % LINES + 1, "limit": 5}
    call = Call(id=f"call_{number}", name="read", arguments=arguments)
    return Message(role="assistant", parts=(Text(text=f"Step {number}."), call))


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
