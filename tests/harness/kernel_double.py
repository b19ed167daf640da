"""A session in memory: the real loop, table and scheduler over a scripted model and a memory sandbox."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from harness.approvals.petition import Petition, Reply
from harness.errors import JournalError
from harness.events import CallIntent, CallOutcome, Entry, Event, MessageAdded, Notice
from harness.kernel.loop import Kernel, TurnEnded, run_turn
from harness.messages import Result
from harness.process.interrupt import Interrupt
from harness.process.session import Session
from policies.schema import Limits, Policy, Rule
from sandbox.memory import MemorySandbox

ALLOW = Rule(syscall="*", action="allow", reason="Inside the sandbox everything may happen.")


def policy_with(*rules: Rule, **limits: Any) -> Policy:
    return Policy(name="test", limits=Limits(**limits), rules=(*rules, ALLOW))


@dataclass
class MemoryJournal:
    """A journal that forgets; it can be told to fail from a given entry on."""

    entries: list[Entry] = field(default_factory=list)
    fails_at: int | None = None

    async def append_many(
        self, entries: Sequence[Entry], told: Callable[[Sequence[Any]], object] = lambda records: None
    ) -> list[SimpleNamespace]:
        if self.fails_at is not None and len(self.entries) + len(entries) > self.fails_at:
            raise JournalError("no space left on the device", code="disk_full")
        self.entries += entries
        written = [SimpleNamespace(entry=entry) for entry in entries]
        told(written)
        return written


class SlowJournal(MemoryJournal):
    """On a slow disk: as the real one, it finishes what it writes when whoever waits is cancelled."""

    async def append_many(
        self, entries: Sequence[Entry], told: Callable[[Sequence[Any]], object] = lambda records: None
    ) -> list[SimpleNamespace]:
        written = await super().append_many(entries, told)
        await asyncio.sleep(0.02)
        return written


class Says:
    """A person at the terminal who gives these answers in turn, the last one for ever; an exception is
    raised, a number slept for."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[Petition] = []
        self.withdrawn: list[str] = []
        self.seen = asyncio.Event()

    async def ask(self, petition: Petition, *, deadline_s: float) -> Reply:
        self.asked.append(petition)
        self.seen.set()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        try:
            if isinstance(answer, float):
                await asyncio.sleep(answer)
        except asyncio.CancelledError:
            self.withdrawn.append(petition.name)
            raise
        if callable(answer):
            answer = await answer(petition)
        if isinstance(answer, BaseException):
            raise answer
        return answer


YES = Reply(True)
NO = Reply(False)


@dataclass
class Run:
    """A session before, while and after its turn."""

    kernel: Kernel
    session: Session
    journal: MemoryJournal
    events: list[Event]
    box: MemorySandbox
    ended: TurnEnded | None = None

    def steer(self, text: str) -> None:
        """The user said it, and it was journalled."""
        self.session.inbox.feed(self.session.inbox.entry(text, "request", "terminal"))

    async def turn(self, task: str = "do it") -> TurnEnded:
        self.ended = await run_turn(self.kernel, self.session, task)
        return self.ended

    @property
    def interrupt(self) -> Interrupt:
        return self.kernel.devices.interrupt

    @property
    def results(self) -> list[Result]:
        """As the model got them."""
        return [
            part for message in self.session.messages for part in message.parts if isinstance(part, Result)
        ]

    @property
    def notices(self) -> list[str]:
        return [entry.code for entry in self.journal.entries if isinstance(entry, Notice)]

    def kinds(self) -> list[str]:
        """The journal's entries in short: `message:user`, `intent:bash`, `outcome:bash`, …"""
        short = []
        for entry in self.journal.entries:
            match entry:
                case MessageAdded():
                    short.append(f"message:{entry.message.role}")
                case CallIntent():
                    short.append(f"intent:{entry.call.name}")
                case CallOutcome():
                    short.append(f"outcome:{entry.result.name}")
                case _:
                    short.append(entry.kind)
        return short


def calls(*made: tuple[str, Any], text: str = "") -> dict[str, Any]:
    """A scripted reply that makes calls."""
    return {"text": text, "calls": [{"name": name, "arguments": arguments} for name, arguments in made]}


def bash(command: str, **more: Any) -> tuple[str, dict[str, Any]]:
    return "bash", {"command": command, **more}
