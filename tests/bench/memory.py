"""Memory: a turn's assembly with and without an eviction, and a search through a long session."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from harness.events import CallOutcome, Entry, MessageAdded
from harness.journal.writer import Journal
from harness.memory.assemble import Memory
from harness.memory.index import INDEX, Index
from harness.messages import Call, Message, Result, Usage, user
from tests.bench.figure import Beside, Figure, NotMeasured, Target
from tests.bench.place import Bench
from tests.bench.sampling import Contender, Series, interleaved

PAGES = 500
LIMIT_S = 2e-3
RESULT = "".join(f"a line of output that is like others, number {number}\n" for number in range(40))


def history(pages: int) -> list[Message]:
    """A user's message and steps of two pages: a call and its result, some 500 tokens."""
    messages = [user("mend it")]
    for number in range((pages - 1) // 2):
        call = Call(id=f"c{number}", name="bash", arguments={"command": f"make step-{number}"})
        result = Result(call_id=call.id, name="bash", content=f"{number}\n{RESULT}[exit code 0]")
        messages.append(Message(role="assistant", parts=(call,)))
        messages.append(Message(role="tool", parts=(result,)))
    return messages


async def measure(bench: Bench) -> list[Figure]:
    rounds = bench.count(20, 3)
    evicting, flat, long = await interleaved(
        rounds,
        Contender(f"{PAGES} pages", _evicting(PAGES), each=5),
        Contender(f"{PAGES} pages", _growing(PAGES), each=20),
        Contender(f"{40 * PAGES:,} pages", _growing(40 * PAGES), each=20),
    )
    first, next_one = await _searches(bench, bench.count(10_000, 500), rounds)
    return [
        Figure(f"evict to the low water and assemble, {PAGES} pages", evicting, Target(LIMIT_S)),
        Figure("a turn's assembly where nothing is evicted", flat, Target(LIMIT_S), (Beside(long),)),
        Figure("recall by words in a long session", next_one, beside=(Beside(first),)),
    ]


def _evicting(pages: int) -> Callable[[], Awaitable[float]]:
    messages = history(pages)

    async def once() -> float:
        memory = Memory()
        # As in a session: everything but the last step is known from the turns before.
        memory.assemble(messages[:-2])
        limit = int(memory.tokens / 0.95)
        started = time.perf_counter()
        evicted = memory.make_room(messages, limit)
        if evicted is None:
            raise NotMeasured("nothing was evicted")
        memory.apply(evicted)
        sent = memory.assemble(messages)
        took = time.perf_counter() - started
        if len(sent) != len(messages) or memory.tokens > 0.65 * limit:
            raise NotMeasured("the context did not become shorter")
        return took

    return once


def _growing(pages: int) -> Callable[[], Awaitable[float]]:
    messages = history(pages)
    memory = Memory()
    memory.assemble(messages)
    steps = iter(range(10**9))

    async def once() -> float:
        number = next(steps)
        call = Call(id=f"n{number}", name="bash", arguments={"command": "true"})
        result = Result(call_id=call.id, name="bash", content=RESULT)
        messages.extend([Message(role="assistant", parts=(call,)), Message(role="tool", parts=(result,))])
        started = time.perf_counter()
        if memory.make_room(messages, 10**9) is not None:
            raise NotMeasured("something was evicted")
        memory.assemble(messages)
        memory.observe(Usage(input_tokens=600, cache_read_tokens=memory.tokens - 600))
        return time.perf_counter() - started

    return once


async def _searches(bench: Bench, entries: int, rounds: int) -> tuple[Series, Series]:
    """A search that has to make the index first, and one that finds it made."""
    with bench.directory() as scratch:
        journal = Journal.create(scratch / "session")
        try:
            for at in range(0, entries, 500):
                await journal.append_many(_entries(at, min(500, entries - at)))
        finally:
            journal.close()
        index = Index(journal.directory)

        async def found() -> float:
            started = time.perf_counter()
            pages = index.search(f"what came of step-{entries // 2 - entries // 2 % 2}", 8)
            took = time.perf_counter() - started
            if not pages:
                raise NotMeasured("the search found nothing")
            return took

        async def made() -> float:
            (journal.directory / INDEX).unlink(missing_ok=True)
            return await found()

        first, later = await interleaved(
            min(rounds, 3),
            Contender(f"the first, {entries:,} entries", made),
            Contender(f"{entries:,} entries", found, each=5),
        )
    return first, later


def _entries(start: int, count: int) -> list[Entry]:
    made: list[Entry] = []
    for number in range(start, start + count, 2):
        call = Call(id=f"c{number}", name="bash", arguments={"command": f"make step-{number}"})
        made.append(MessageAdded(message=Message(role="assistant", parts=(call,))))
        result = Result(call_id=call.id, name="bash", content=f"{number}\n{RESULT}[exit code 0]")
        made.append(CallOutcome(result=result, duration_s=0.1))
    return made
