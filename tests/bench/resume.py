"""Resuming: a journal of ten thousand entries that a session wrote, opened and rebuilt; and appending to one.

The session runs the real loop over a sandbox in memory, so what is measured is the harness alone: the engine
gives a container back, or a new one, in its own time (`start`).
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.boot.machine import Machine, Opened
from harness.boot.parts import RunOptions
from harness.boot.resume import ResumeOptions, resume
from harness.boot.start import run
from harness.events import CallOutcome, Event, MessageAdded
from harness.journal.reading import read
from harness.journal.record import FILE
from harness.journal.writer import Journal
from harness.messages import Result
from harness.process.interrupt import Interrupt
from harness.recovery.opening import opened
from harness.store import Store
from policies.schema import Limits, Policy, Rule
from sandbox.memory import MemorySandbox
from sandbox.protocol import SandboxSpec
from tests.bench.figure import Beside, Figure, NotMeasured, Target
from tests.bench.place import Bench
from tests.bench.sampling import Contender, Series, interleaved

ENTRIES = 10_000
A_TURN = 3
"""Entries: the model's message, the intent, the outcome."""
LIMIT_S = 0.5
APPEND_RATIO = 1.2

Once = Callable[[], Awaitable[float]]


@dataclass(frozen=True)
class MemoryMachine:
    """Its sandboxes are there at once."""

    policy: Policy

    async def digest(self, image: str) -> str:
        return f"sha256:{'0' * 64}"

    @asynccontextmanager
    async def open(self, spec: SandboxSpec) -> AsyncIterator[Opened]:
        text = "".join(f"line {number}\n" for number in range(100))
        async with MemorySandbox(policy=self.policy, files={"/workspace/notes.txt": text}) as box:
            yield Opened(box, None)

    def again(self, spec: SandboxSpec, ref: str | None) -> AbstractAsyncContextManager[Opened]:
        return self.open(spec)

    async def changes(self, state: Path) -> int:
        return 0


async def measure(bench: Bench) -> list[Figure]:
    entries, rounds = bench.count(ENTRIES, 600), bench.count(10, 3)
    with bench.directory() as scratch:
        directory = await _recorded(scratch, entries)
        rebuilt, scanned, words = await interleaved(
            rounds,
            Contender("open and rebuild", _rebuilding(directory)),
            Contender("reading alone", _reading(directory)),
            Contender("to the model's first words", _resuming(scratch, directory.name)),
        )
        appended, bare, flush = await _appends(scratch, bench.count(20, 3))
    title = f"a journal of {entries:,} entries"
    return [
        Figure(f"open and rebuild {title}", rebuilt, Target(LIMIT_S), (Beside(scanned),)),
        Figure(f"resume {title}, to the model's first words", words),
        Figure(
            "append to the journal, flushed", appended, beside=(Beside(bare, APPEND_RATIO), Beside(flush))
        ),
    ]


def _policy(turns: int) -> Policy:
    return Policy(
        name="bench",
        limits=Limits(turns=turns + 1000, tokens=10**12, context_tokens=10**9),
        rules=(Rule(syscall="*", action="allow", reason="Nothing here has an effect."),),
    )


def _script(path: Path, turns: int) -> str:
    replies = [
        {
            "text": f"Step {number}.",
            "calls": [
                {"name": "read", "arguments": {"path": "notes.txt", "offset": number % 100 + 1, "limit": 5}}
            ],
        }
        for number in range(turns)
    ]
    # A script goes by how much was said: whoever resumes gets one more last word.
    path.write_text("".join(json.dumps(reply) + "\n" for reply in [*replies, *[{"text": "Done."}] * 100]))
    return f"scripted:{path}"


@asynccontextmanager
async def _machine(policy: Policy) -> AsyncIterator[Machine]:
    yield MemoryMachine(policy)


async def _recorded(scratch: Path, entries: int) -> Path:
    """The directory of a session that has ended."""
    turns = entries // A_TURN
    policy = _policy(turns)
    options = RunOptions(
        "read the notes", _script(scratch / "script.jsonl", turns), policy, home=scratch, watched=False
    )
    ended = await run(options, lambda event: None, Interrupt(), machine=lambda: _machine(policy))
    if ended.status != "done":
        raise NotMeasured(f"the session ended {ended.status}: {ended.reason}")
    return Store(scratch).session("last")


def _rebuilding(directory: Path) -> Once:
    async def once() -> float:
        began = time.perf_counter()
        journal, past = opened(directory)
        took = time.perf_counter() - began
        journal.close()
        if not past.session.messages:
            raise NotMeasured("nothing was rebuilt")
        return took

    return once


def _reading(directory: Path) -> Once:
    async def once() -> float:
        began = time.perf_counter()
        for _ in read(directory):
            pass
        return time.perf_counter() - began

    return once


def _resuming(scratch: Path, session: str) -> Once:
    async def once() -> float:
        policy = _policy(0)
        words: list[float] = []

        def told(event: Event) -> None:
            if isinstance(event, MessageAdded) and event.message.role == "assistant":
                words.append(time.perf_counter())

        options = ResumeOptions(session, "go on", home=scratch, watched=False)
        began = time.perf_counter()
        await resume(options, told, Interrupt(), machine=lambda: _machine(policy))
        if not words:
            raise NotMeasured("the model was not asked")
        return words[0] - began

    return once


async def _appends(scratch: Path, rounds: int) -> tuple[Series, Series, Series]:
    """Entries as a turn writes them, and their bytes by themselves: in a thread as well, and in the loop."""
    journal = Journal.create(scratch / "journal")
    file = journal.directory / FILE
    sizes: list[int] = []
    bare = os.open(scratch / "bare", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    text = "".join(f"{number:6}\tline {number}\n" for number in range(40))

    async def append() -> float:
        before = file.stat().st_size
        result = Result(call_id="call_1", name="read", content=text)
        began = time.perf_counter()
        await journal.append(CallOutcome(result=result, duration_s=0.001))
        took = time.perf_counter() - began
        sizes.append(file.stat().st_size - before)
        return took

    async def write() -> float:
        data = b"x" * sizes[-1]
        began = time.perf_counter()
        await asyncio.to_thread(_flushed, bare, data)
        return time.perf_counter() - began

    async def flush() -> float:
        data = b"x" * sizes[-1]
        began = time.perf_counter()
        _flushed(bare, data)
        return time.perf_counter() - began

    try:
        ours, threaded, blocking = await interleaved(
            rounds,
            Contender("usermode", append, each=20),
            Contender("write and fdatasync in a thread", write, each=20),
            Contender("write and fdatasync, the loop standing still", flush, each=20),
        )
    finally:
        journal.close()
        os.close(bare)
    return ours, threaded, blocking


def _flushed(descriptor: int, data: bytes) -> None:
    os.write(descriptor, data)
    os.fdatasync(descriptor)
