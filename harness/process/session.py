"""The session (process control block): all that changes while a turn runs, in one place.

Everything else the kernel works with is a constant or a collaborator. It can be rebuilt from the journal.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from harness.inbox import Inbox
from harness.loops import LoopDetector
from harness.memory.assemble import Memory
from harness.messages import Message
from harness.process.budget import Budget
from policies.schema import Limits
from sandbox.protocol import Completed

WORKSPACE = "/workspace"
FIRST_EXEC_ID = 1 << 32
"""Lower numbers are the wire's own."""

StepStatus = Literal["pending", "in_progress", "done"]


@dataclass(frozen=True)
class PlanStep:
    step: str
    status: StepStatus


@dataclass
class Job:
    """A `bash` call that outlived its call."""

    name: str
    """What the model calls it, e.g. `job-1`."""
    exec_id: str
    command: str
    takes_input: bool
    started: float = field(default_factory=time.monotonic)
    seen: dict[str, int] = field(default_factory=lambda: {"stdout": 0, "stderr": 0})
    """Bytes of each stream that were shown to the model."""
    done: Completed | None = None
    """Its result, once its main process has ended."""
    gone: bool = False
    """Its container ended before it did."""

    @property
    def runs(self) -> bool:
        """Whether something of it may run: itself, or what it left behind when it ended."""
        return not self.gone and (self.done is None or self.done.jobs > 0)


@dataclass(frozen=True)
class Child:
    """A session that a call of this one started."""

    name: str
    session: str
    """Its id."""
    call_id: str
    """The call that started it."""
    mergeable: bool
    """Whether what it changed may be taken over."""


@dataclass(frozen=True)
class Tools:
    """What the image has."""

    shell: str | None
    """`bash`, else `sh`, else nothing."""
    ripgrep: bool


@dataclass
class Made:
    """A call that ran, or runs: who it was when something inside is traced back to it."""

    number: int
    """In the order they were prepared, from 1."""
    call_id: str
    summary: Callable[[], str]
    """In one line; few are ever asked."""
    running: bool = True


@dataclass
class Session:
    budget: Budget
    messages: list[Message] = field(default_factory=list)
    inbox: Inbox = field(default_factory=Inbox)
    """What the user said and the model has not read."""
    cwd: str = WORKSPACE
    jobs: dict[str, Job] = field(default_factory=dict)
    plan: tuple[PlanStep, ...] = ()
    tools: Tools | None = None
    """None until somebody needed to know."""
    loops: LoopDetector = field(default_factory=LoopDetector)
    memory: Memory = field(default_factory=Memory)
    """Which of the messages the model is sent, and how."""
    made: dict[str, Made] = field(default_factory=dict)
    """By execution id."""
    written: bool = True
    """Whether the workspace may differ from its last checkpoint."""
    limits: Limits | None = None
    """In place of the policy's, once the user gave more."""
    children: dict[str, Child] = field(default_factory=dict)
    """By name, those that have ended too."""
    given: int = 0
    """Of the sessions that this one may start: those it started, and what it gave them to start."""
    calls: int = 0
    """Calls made so far; the next one's execution id is made from it."""

    def next_exec_id(self) -> str:
        """An id for at-most-once execution: unique in the session, the same again when it is rebuilt."""
        self.calls += 1
        return f"{FIRST_EXEC_ID + self.calls:016x}"

    def add_job(self, exec_id: str, command: str, *, takes_input: bool, seen: Mapping[str, int]) -> Job:
        name = f"job-{len(self.jobs) + 1}"
        job = Job(name, exec_id, command, takes_input, seen=dict(seen))
        self.jobs[name] = job
        return job

    def lose_jobs(self) -> None:
        """Their container is gone, and what still ran in it has ended."""
        for job in self.jobs.values():
            job.gone = True
