"""Recall probes: facts planted across a long session, and how many of them are still in the context three
compactions later, word by word, or come back when `recall` is asked as one would ask.

The model of this session never writes a summary, so that only what the harness itself keeps is measured.
Other outputs speak of the same things and name the same properties: a search has to tell them apart.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass, field

from harness.approvals.grants import Grants
from harness.approvals.service import Approvals
from harness.events import Compacted, Event
from harness.inbox import Inbox
from harness.journal.writer import Journal
from harness.kernel.calls import Devices
from harness.kernel.loop import Kernel, run_turn
from harness.memory.index import Index
from harness.messages import Call, Message, Result, Text, Thinking
from harness.process.budget import Budget, allowance
from harness.process.interrupt import Interrupt
from harness.process.recorder import Recorder
from harness.process.session import Session
from harness.prompt import system_prompt
from harness.provider import Delta, Request
from harness.providers.scripted import ScriptedProvider
from policies.schema import Limits, Policy, Rule
from sandbox.memory import GuestProcess, MemorySandbox
from tests.bench.figure import Beside, Figure, NotMeasured, Target
from tests.bench.place import Bench
from tests.bench.sampling import Series

LIMIT = 0.95
COMPACTIONS = 3
CONTEXT_TOKENS = 16_000
THINGS = ("billing", "parser", "gateway", "mailer", "scheduler", "uploader", "indexer", "exporter")
PARTS = ("worker", "cache", "queue", "client", "schema", "timer", "lock", "buffer")
PROPERTIES = ("retry limit", "page size", "poll interval", "batch size")
CHATTER = "I look at the next part, compare it with what I saw before, and write down what matters. " * 8


@dataclass(frozen=True)
class Fact:
    """Something that came up once, how one would ask for it, and what has to be in the answer."""

    query: str
    answer: str
    output: str = ""
    fails: bool = False
    text: str = ""
    command: str = ""
    wish: str = ""


def facts(count: int) -> list[Fact]:
    return [_fact(number) for number in range(count)]


def _fact(number: int) -> Fact:
    thing = f"{THINGS[number % 8]} {PARTS[number // 8 % 8]}"
    name, value = PROPERTIES[number % 4], 1000 + 37 * number
    match number % 5:
        case 0:
            said = f"the {name} of the {thing} is {value}"
            return Fact(f"What is the {name} of the {thing}?", str(value), output=said)
        case 1:
            said = f"E{value}: the {thing} could not be opened: token {value:x} expired"
            return Fact(f"Which error said that the {thing} could not be opened?", f"E{value}", said, True)
        case 2:
            path = f"/workspace/src/{thing.replace(' ', '/')}_{value}.py"
            return Fact(f"Which file did I mend for the {thing}?", path, command=f"mend {path} # {thing}")
        case 3:
            text = f"I decided that the {thing} keeps layout {value}, since the old one breaks its readers."
            return Fact(f"What did I decide about the layout of the {thing}?", f"layout {value}", text=text)
        case _:
            wish = f"And mind that the {thing} must never use port {value}."
            return Fact(f"Which port must the {thing} never use?", f"port {value}", wish=wish)


@dataclass
class Watched:
    """The session's model, and what it was sent when the probes began."""

    inner: ScriptedProvider
    planted: dict[int, Fact]
    """By turn."""
    inbox: Inbox
    probes_from: int
    context: str = ""
    turn: int = 0
    name: str = "scripted"
    model: str = "bench"

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        if request.purpose == "turn":
            fact = self.planted.get(self.turn)
            if fact is not None and fact.wish:
                self.inbox.feed(self.inbox.entry(fact.wish, "request", "bench"))
            if self.turn == self.probes_from:
                self.context = "\n".join(_texts(request.messages))
            self.turn += 1
        async for delta in self.inner.stream(request):
            yield delta

    async def aclose(self) -> None:
        await self.inner.aclose()


async def measure(bench: Bench) -> list[Figure]:
    planted = facts(bench.count(60, 20))
    held, found = await asyncio.wait_for(_session(bench, planted), 300)
    both = Series("held or recalled", ((sum(map(max, held, found)) / len(planted),),), "x")
    return [
        Figure(
            f"{len(planted)} facts, {COMPACTIONS} compactions later and without a summary",
            both,
            Target(LIMIT, at_least=True),
            (
                Beside(Series("still in the context", ((sum(held) / len(planted),),), "x")),
                Beside(Series("recalled by asking", ((sum(found) / len(planted),),), "x")),
            ),
        )
    ]


@dataclass
class _Events:
    compactions: int = 0
    seen: list[Event] = field(default_factory=list)

    def told(self, event: Event) -> None:
        self.compactions += isinstance(event, Compacted)


async def _session(bench: Bench, planted: list[Fact]) -> tuple[list[bool], list[bool]]:
    """For each fact whether the context held it when the probes began, and whether recall brought it."""
    gap = 5
    turns = gap * len(planted) + 60
    at = {gap * number + 2: fact for number, fact in enumerate(planted)}
    replies = [*_work(turns, at), *({"calls": [_recall(fact)]} for fact in planted), "done"]
    policy = Policy(
        name="bench",
        limits=Limits(turns=len(replies) + 10, tokens=10**12, context_tokens=CONTEXT_TOKENS),
        rules=(Rule(syscall="*", action="allow", reason="Nothing here has an effect."),),
    )

    async def works(process: GuestProcess) -> int:
        number = int(process.argv[1])
        fact = at.get(number)
        lines = list(_noise(number))
        if fact is not None and fact.output:
            lines.insert(len(lines) // 2, fact.output)
        await process.out("\n".join(lines) + "\n")
        return 1 if fact is not None and fact.fails else 0

    events = _Events()
    with bench.directory() as scratch:
        journal = Journal.create(scratch / "session")
        try:
            async with MemorySandbox(policy=policy, commands={"work": works, "mend": _mends}) as box:
                recorder = Recorder(journal, events.told)
                approvals = Approvals(recorder, Grants(recorder), policy.sudo.timeout_s)
                session = Session(Budget(allowance(policy.limits)))
                index = Index(journal.directory)
                devices = Devices(box, policy, recorder, Interrupt(), approvals, watched=False, archive=index)
                model = Watched(ScriptedProvider(replies), at, session.inbox, turns)
                kernel = Kernel(model, devices, lambda usage: 0.0, system_prompt(policy))
                ended = await run_turn(kernel, session, "Look through the services and mend what is broken.")
        finally:
            journal.close()
    if ended.status != "done" or events.compactions < COMPACTIONS:
        raise NotMeasured(f"it ended {ended.status} after {events.compactions} compactions: {ended.reason}")
    answers = [
        part.content
        for message in session.messages
        for part in message.parts
        if isinstance(part, Result) and part.name == "recall"
    ]
    held = [fact.answer in model.context for fact in planted]
    return held, [fact.answer in answer for fact, answer in zip(planted, answers, strict=True)]


def _work(turns: int, at: dict[int, Fact]) -> Iterator[dict[str, object]]:
    for number in range(turns):
        fact = at.get(number)
        command = fact.command if fact is not None and fact.command else f"work {number}"
        said = fact.text if fact is not None else ""
        call = {"name": "bash", "arguments": {"command": command}}
        yield {"text": f"Step {number}. {CHATTER}{said}", "calls": [call]}


def _recall(fact: Fact) -> dict[str, object]:
    return {"name": "recall", "arguments": {"query": fact.query}}


def _noise(number: int) -> Iterator[str]:
    """Other properties of these things, and these properties of other things."""
    for line in range(24):
        thing = f"{THINGS[(number + line) % 8]} {PARTS[(number * 3 + line) % 8]}"
        yield f"checked the {thing}, pass {number}.{line}: nothing to report on its {PROPERTIES[line % 4]}"


async def _mends(process: GuestProcess) -> int:
    await process.out("mended\n")
    return 0


def _texts(messages: Sequence[Message]) -> Iterator[str]:
    for message in messages:
        for part in message.parts:
            match part:
                case Text() | Thinking():
                    yield part.text
                case Call():
                    yield str(part.arguments)
                case Result():
                    yield part.content
