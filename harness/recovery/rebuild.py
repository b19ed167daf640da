"""Rebuilding a session (redo): the process control block again, folded from its journal. Pure.

What the model was told is in the messages; what the harness knew besides (directory, jobs, plan, grants, what
was spent) is in the details of the outcomes. Nothing is asked of a sandbox here.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial

from harness.errors import JournalError
from harness.events import (
    CallIntent,
    CallOutcome,
    FileAhead,
    MessageAdded,
    SessionEnded,
    SessionStarted,
)
from harness.inbox import Inbox
from harness.journal.record import Record
from harness.loops import PERIODS, STOP_AT
from harness.memory.assemble import fixed_tokens
from harness.memory.rebuild import Rebuild
from harness.messages import Call, JsonObject, Result, Usage
from harness.process.budget import Budget, allowance
from harness.process.session import FIRST_EXEC_ID, WORKSPACE, Child, Job, Made, PlanStep, Session
from harness.process.traffic import Traffic
from harness.prompt import system_prompt
from harness.recovery.answers import Answers
from harness.recovery.details import completed, plan, raised, spent_by, totals
from harness.recovery.rebuilt import Open, Rebuilt
from harness.syscalls.table import tool_specs
from harness.words import summary
from policies.schema import Policy


@dataclass(frozen=True)
class _Mark:
    """What going back to a checkpoint brings back besides files and words."""

    cwd: str
    plan: tuple[PlanStep, ...]
    jobs: Mapping[str, Job]
    last: _Last
    rested: bool


@dataclass
class _Last:
    """What is known of the model's last message."""

    stop: str | None = None
    """Why it ended."""
    intents: dict[str, CallIntent] = field(default_factory=dict)
    aheads: dict[str, FileAhead] = field(default_factory=dict)
    settled: dict[str, Result] = field(default_factory=dict)
    elsewhere: frozenset[str] = frozenset()
    """Calls of it that were announced in a sandbox that is gone."""

    def copy(self) -> _Last:
        return _Last(self.stop, dict(self.intents), dict(self.aheads), dict(self.settled), self.elsewhere)


def _copied(jobs: Mapping[str, Job]) -> dict[str, Job]:
    return {name: replace(job, seen=dict(job.seen)) for name, job in jobs.items()}


class Rebuilder:
    """Feed it the records in their order, then ask for `rebuilt`."""

    def __init__(self) -> None:
        self._started: SessionStarted | None = None
        self._policy = Policy(name="none")
        self._conversation = Rebuild()
        self._session: Session | None = None
        self._turns = 0
        self._usages: list[Usage] = []
        self._cost: float | None = 0.0
        self._elapsed_s, self._from, self._until = 0.0, "", ""
        self._answers = Answers()
        self._connections = 0
        self._traffic = Traffic()
        self._ref: str | None = None
        self._moved_at = 0
        """Messages there were when the last sandbox was opened."""
        self._last = _Last()
        self._marks: dict[int, _Mark] = {}
        """By the number of the checkpoint."""
        self._kept: int | None = None
        """The checkpoint since which nothing was said or done."""
        self._inbox = Inbox()
        self._rested = False
        self._ended: SessionEnded | None = None
        self._copied = 0
        """Entries that are another session's and still to come."""

    def feed(self, record: Record) -> None:
        entry = record.entry
        if entry.kind == "resumed" or record.ts < self._until:
            # What passed until here counts; that nobody ran it, or that its clock was set back, does not.
            self._elapsed_s += _seconds(self._from, self._until)
            self._from = record.ts
        self._until = record.ts
        self._conversation.feed(entry)
        self._inbox.feed(entry)
        self._ended = entry if entry.kind == "session_ended" else None
        if entry.kind in ("message", "call_outcome", "rewound"):
            self._kept = None
        match entry.kind:
            case "session_started":
                self._started, self._from = entry, record.ts
                self._copied = 0 if entry.forked is None else entry.forked.entries
                self._policy = policy_of(entry)
                self._session = Session(Budget(allowance(self._policy.limits)))
                self._conversation.memory.fixed = fixed_tokens(system_prompt(self._policy), tool_specs())
            case "sandbox_opened":
                self._ref = entry.ref
                self._last.elsewhere = frozenset(self._last.intents)
                self._moved_at = len(self._conversation.messages)
                if self._session is not None:
                    self._session.lose_jobs()
            case "message" if entry.message.role == "assistant":
                self._rested = False
                self._reply(entry)
            case "message" if entry.prompt is not None:
                self._rested = False
            case "turn_ended":
                self._rested = True
                if self._kept is not None:  # A turn is over once its files are kept.
                    self._marks[self._kept] = replace(self._marks[self._kept], rested=True)
            case "compacted" if entry.replies:
                self._paid(entry.replies, entry.usage, entry.cost_usd)
            case "call_intent":
                self._last.intents[entry.call.id] = entry
                self._last.elsewhere -= {entry.call.id}
                self._made(entry)
            case "file_ahead":
                self._last.aheads.pop(entry.call_id, None)
                self._last.aheads[entry.call_id] = entry
            case "call_outcome":
                self._last.settled[entry.result.call_id] = entry.result
                self._learn(entry, record.ts)
            case "checkpointed" if self._session is not None:
                self._marks[entry.number] = self._mark(self._session)
                self._kept = entry.number
            case "rewound" if self._session is not None:
                # What was spent, allowed and numbered since stays; what was said, planned and run does not.
                self._go_back(self._session, self._marks[entry.to])
            case "egress":
                self._connections = max(self._connections, entry.connection)
            case "egress_closed":
                self._traffic = self._traffic.after(entry)
            case "approval_asked" | "grant":
                self._answers.feed(record)
            case "child_started" if self._session is not None:
                child = Child(entry.name, entry.session, entry.call_id, entry.mergeable)
                self._session.children[entry.name] = child
                self._session.given += 1 + entry.children
        if self._copied and entry.kind != "session_started":
            self._copied -= 1
            if not self._copied:
                self._begin_anew(record.ts)

    def _begin_anew(self, ts: str) -> None:
        """A fork: what was said and done before is another session's, what is spent from here on its own."""
        assert self._session is not None
        self._turns, self._usages, self._cost = 0, [], 0.0
        self._traffic = Traffic()
        self._elapsed_s, self._from = 0.0, ts
        self._session.limits, self._session.given = None, 0
        self._session.budget = Budget(allowance(self._policy.limits))
        self._session.lose_jobs()

    def rebuilt(self) -> Rebuilt:
        """The session at the last record. JournalError when there is none that can go on."""
        started, session = self._started, self._session
        if started is None or session is None:
            raise JournalError("nothing was journalled of this session yet; start another", code="missing")
        if self._copied:
            raise JournalError("this fork was cut short while it was made; make another", code="missing")
        messages = self._conversation.messages
        moved = 0 < self._moved_at == len(messages)
        last = messages[-1] if messages else None
        calls = last.calls if last is not None and last.role == "assistant" else ()
        if all(call.id in self._last.settled for call in calls):
            self._conversation.settle()
            calls = ()
        session.messages, session.memory = self._conversation.messages, self._conversation.memory
        session.inbox = self._inbox
        self._loops(session)
        spent_s = self._elapsed_s + _seconds(self._from, self._until)
        session.budget.spent_before(self._turns, Usage.sum(self._usages), self._cost, spent_s)
        return Rebuilt(
            started=started,
            policy=self._policy,
            model=self._conversation.model,
            service=self._conversation.service,
            session=session,
            grants=self._answers.standing,
            granted=self._answers.given,
            asked=self._answers.asked,
            connections=self._connections,
            traffic=self._traffic,
            ref=self._ref,
            moved=moved,
            settled=dict(self._last.settled) if calls else {},
            open=tuple(self._open(call) for call in calls if call.id not in self._last.settled),
            stop=self._last.stop,
            rested=self._rested and not calls,
            ended=self._ended,
            checkpoints=self._marks.keys(),
        )

    def _mark(self, session: Session) -> _Mark:
        return _Mark(session.cwd, session.plan, _copied(session.jobs), self._last.copy(), self._rested)

    def _go_back(self, session: Session, mark: _Mark) -> None:
        session.cwd, session.plan, session.jobs = mark.cwd, mark.plan, _copied(mark.jobs)
        session.lose_jobs()
        self._last, self._rested = mark.last.copy(), mark.rested

    def _open(self, call: Call) -> Open:
        ahead = self._last.aheads.get(call.id)
        found = None
        if ahead is not None:
            # Calls that write one file run one after the other, in this order.
            rest = itertools.dropwhile(lambda one: one is not ahead, self._last.aheads.values())
            found = next((one.before for one in rest if one is not ahead and one.path == ahead.path), None)
        return Open(call, self._last.intents.get(call.id), ahead, found, call.id in self._last.elsewhere)

    def _reply(self, entry: MessageAdded) -> None:
        self._last = _Last(entry.stop)
        if entry.usage is None:
            return  # What was said until it was cancelled; nobody counted it.
        self._paid(1, entry.usage, entry.cost_usd)

    def _paid(self, replies: int, usage: Usage, cost_usd: float | None) -> None:
        self._turns += replies
        self._usages.append(usage)
        self._cost = None if self._cost is None or cost_usd is None else self._cost + cost_usd

    def _made(self, intent: CallIntent) -> None:
        assert self._session is not None
        if intent.exec_id is None:
            return
        number = int(intent.exec_id, 16) - FIRST_EXEC_ID
        # Calls of one message are announced in any order; no number may come twice.
        self._session.calls = max(self._session.calls, number)
        self._session.made[intent.exec_id] = Made(
            number, intent.call.id, partial(summary, intent.call), running=False
        )

    def _learn(self, entry: CallOutcome, ts: str) -> None:
        """What a call's outcome changed in the session."""
        session, details, name = self._session, entry.details, entry.result.name
        assert session is not None
        intent = self._last.intents.get(entry.result.call_id)
        arguments = intent.call.arguments if intent is not None else {}
        if name == "bash":
            self._ran(session, entry, intent, ts)
        elif name == "job" and isinstance(found := details.get("job"), str) and found in session.jobs:
            job = session.jobs[found]
            if details.get("running") is False:
                job.done = completed(details)
            job.seen = totals(details) or job.seen
        elif name == "plan" and entry.result.error is None:
            session.plan = plan(arguments)
        elif name == "sudo" and isinstance(wanted := details.get("limits"), dict):
            present = session.limits or self._policy.limits
            session.limits = raised(present, wanted)
            session.budget.allowed = allowance(session.limits)
        elif name == "spawn" and (spent := spent_by(details)) is not None:
            self._paid(*spent)
            self._traffic = self._traffic.after(entry)

    def _ran(self, session: Session, entry: CallOutcome, intent: CallIntent | None, ts: str) -> None:
        details = entry.details
        if isinstance(cwd := details.get("cwd"), str):
            session.cwd = cwd
        if intent is None or intent.exec_id is None:
            return
        arguments = intent.call.arguments
        if entry.result.error == "not_found" and not arguments.get("cwd"):
            session.cwd = WORKSPACE  # Its directory was gone; that is what the model was told.
        running = details.get("running") is True
        if running or details.get("processes_left"):
            job = session.add_job(
                intent.exec_id,
                str(arguments.get("command", "")),
                takes_input=running and arguments.get("background") is True,
                seen=totals(details) or {"stdout": 0, "stderr": 0},
            )
            job.started = time.monotonic() - max(0.0, time.time() - datetime.fromisoformat(ts).timestamp())
            if not running:
                job.done = completed(details)

    def _loops(self, session: Session) -> None:
        """As many of the last steps as the detector remembers."""
        last = session.messages[-3 * STOP_AT * max(PERIODS) :]
        for message, after in itertools.pairwise(last):
            if message.calls and after.role == "tool":
                results = tuple(part for part in after.parts if isinstance(part, Result))
                session.loops.observe(message.calls, results)


def policy_of(started: SessionStarted) -> Policy:
    """Exactly the policy that was decided on, or JournalError."""
    if _digest(started.policy) != started.policy_digest:
        raise JournalError(
            "the policy of this session was not journalled as it was (a value in it was redacted), so it "
            "cannot go on under it; start another session",
            code="policy",
        )
    try:
        return Policy.model_validate(started.policy)
    except ValueError as exc:
        raise JournalError(f"the policy of this session is none that this usermode knows: {exc}") from exc


def _digest(policy: JsonObject) -> str:
    text = json.dumps(policy, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _seconds(first: str, last: str) -> float:
    if not first or not last:
        return 0.0
    return max(0.0, (datetime.fromisoformat(last) - datetime.fromisoformat(first)).total_seconds())
