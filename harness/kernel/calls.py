"""One call, from the model's words to a result: fetched, checked, decided, announced, done, recorded.

Whatever happens on the way, a call gets exactly one result, and the journal holds its intent and its outcome.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from harness.approvals.service import Approval, Approvals
from harness.events import CallIntent, CallOutcome, CallOutput, CallStarted, FileAhead
from harness.kernel.checkpointing import Checkpointer
from harness.kernel.scheduler import Turn
from harness.memory.index import Index
from harness.messages import Call, Result
from harness.process.children import Children
from harness.process.interrupt import Interrupt
from harness.process.outlet import Outlet
from harness.process.recorder import Recorder
from harness.process.session import FIRST_EXEC_ID, Made, Session
from harness.syscalls.arguments import fetch
from harness.syscalls.base import Access, Arguments, Context, Outcome, Refused, Syscall
from harness.syscalls.consent import DO_WITHOUT, unanswered
from harness.syscalls.faults import guarded
from harness.syscalls.questions import about_call
from harness.syscalls.table import TABLE
from harness.words import summary
from policies.decide import Decision, Request, decide
from policies.schema import Limits, Policy
from sandbox.errors import SandboxError
from sandbox.protocol import Sandbox

MAX_CONTENT = 4 << 20
"""Characters of a result: whatever a policy allows to be shown, it must fit into a line of the journal."""


@dataclass(frozen=True)
class Devices:
    """The collaborators that a call meets."""

    sandbox: Sandbox
    policy: Policy
    recorder: Recorder
    interrupt: Interrupt
    approvals: Approvals
    watched: bool = True
    """Whether anybody looks at the output of running commands."""
    outlet: Outlet | None = None
    """The way out of the sandbox; None where there is none at all."""
    keep_out: tuple[Path, ...] = ()
    """Directories of the host of which nothing is ever copied in."""
    archive: Index | None = None
    """The pages of the session's journal; None for a session that keeps none."""
    children: Children | None = None
    """Starts sessions for this one; None where none can be."""
    checkpoints: Checkpointer | None = None
    """Keeps the workspace; None where there is nothing to keep."""

    def limits(self, session: Session) -> Limits:
        """Those in force now: the policy's, or what the user gave since."""
        return session.limits or self.policy.limits


@dataclass(frozen=True)
class Prepared:
    """A call that may run, or the refusal that is its result."""

    call: Call
    exec_id: str
    decision: Decision
    access: Access
    cwd: str
    row: Syscall | None = None
    arguments: Arguments | None = None
    refusal: Outcome | None = None
    approval: Approval | None = None
    """The user's yes, where the policy asks; it is used up right before the effect."""

    @property
    def intent(self) -> CallIntent:
        runs = self.refusal is None
        return CallIntent(
            call=self.call,
            exec_id=self.exec_id if runs else None,
            decision=self.decision.action,
            rule=self.decision.rule,
        )


def prepare(call: Call, session: Session, policy: Policy) -> Prepared:
    """Fetch, check and decide, without any effect; `ask` is left to be asked."""
    try:
        row, arguments = fetch(call, TABLE)
        access = row.access(arguments, session.cwd)
    except Refused as wrong:
        return refused(call, session, wrong)
    decision = decide(policy, Request(call.name, command=access.command, path=access.path, host=access.host))
    refusal = None
    if decision.action == "deny":
        refusal = Outcome(f"denied by the policy, {decision.rule}: {decision.reason} {DO_WITHOUT}", "denied")
    return Prepared(call, session.next_exec_id(), decision, access, session.cwd, row, arguments, refusal)


def refused(call: Call, session: Session, refusal: Refused) -> Prepared:
    """A call that is not run. Nothing was decided on it: it is recorded as denied, the error for a rule."""
    return Prepared(
        call,
        session.next_exec_id(),
        Decision("deny", refusal.code, refusal.content),
        Access(),
        session.cwd,
        refusal=Outcome(refusal.content, refusal.code),
    )


async def answer(prepared: Prepared, devices: Devices) -> Prepared:
    """Where the policy says `ask`, ask. Silence means no."""
    call, decision, row = prepared.call, prepared.decision, prepared.row
    if prepared.refusal is not None or decision.action != "ask" or row is None or row.petitions:
        return prepared
    try:
        petition, again = await about_call(
            devices.sandbox, devices.policy, call, prepared.access, decision, prepared.cwd
        )
    except SandboxError as exc:
        text = f"not run: the sandbox ended before it began: {exc}"
        return replace(prepared, refusal=Outcome(text, "sandbox_gone"))
    approval = await devices.approvals.ask(petition, again)
    if approval.answer.granted:
        return replace(prepared, approval=approval)
    return replace(prepared, refusal=unanswered(approval, f"{decision.rule}: {decision.reason}"))


async def carry_out(
    prepared: Prepared, session: Session, devices: Devices, turn: Turn, *, announced: bool = False
) -> CallOutcome:
    """Run a prepared call in its turn and record what came of it, also when it is cancelled.

    `announced` says that its intent is in the journal already.
    """
    record = _Record(prepared, devices, announced)
    outcome = prepared.refusal
    try:
        if outcome is None and devices.interrupt.cause is None:
            with devices.interrupt.scope(prepared.call.id):
                async with turn():
                    outcome = await _voided(prepared)
                    if outcome is None:
                        await record.begin(session)
                        outcome = await _handled(prepared, session, devices)
    except SandboxError as exc:
        what = f"the sandbox ended while this ran, so it is unknown what it did: {exc}"
        await record.end(Outcome(what, "sandbox_gone"))
        raise
    except asyncio.CancelledError:
        await record.end(outcome)
        raise
    entry = await record.end(outcome)
    if outcome is not None and outcome.held is not None:
        # Only now: a crash before the outcome was written finds it in the sandbox still.
        await devices.sandbox.release(outcome.held)
    return entry


async def give_up(call: Call, session: Session, devices: Devices) -> CallOutcome:
    """The result of a call that is not even looked at, since the session is ending."""
    text = "not run: the sandbox ended before it began"
    prepared = refused(call, session, Refused("sandbox_gone", text))
    return await _Record(prepared, devices, announced=False).end(prepared.refusal)


async def _voided(prepared: Prepared) -> Outcome | None:
    """Right before the effect: a yes is used up, and one that was given to something else is none."""
    approval = prepared.approval
    if approval is None or await approval.redeem():
        return None
    return unanswered(approval, prepared.decision.rule)


async def _handled(prepared: Prepared, session: Session, devices: Devices) -> Outcome:
    assert prepared.row is not None
    call = prepared.call

    def on_output(tail: str, total: int) -> None:
        devices.recorder.emit(CallOutput(call_id=call.id, tail=tail, total_bytes=total))

    async def announce(path: str, before: str | None, after: str) -> None:
        ahead = FileAhead(call_id=call.id, path=path, before=before, after=after)
        await devices.recorder.record(ahead)

    context = Context(
        session=session,
        sandbox=devices.sandbox,
        limits=devices.limits(session),
        cwd=prepared.cwd,
        exec_id=prepared.exec_id,
        call_id=call.id,
        policy=devices.policy,
        approvals=devices.approvals,
        outlet=devices.outlet,
        keep_out=devices.keep_out,
        archive=devices.archive,
        announce=announce,
        children=devices.children,
        on_output=on_output if devices.watched else None,
    )
    try:
        with guarded(call.name):
            return await prepared.row.handler(context, prepared.arguments)
    except Refused as refusal:
        return Outcome(refusal.content, refusal.code)


class _Record:
    """A call's two entries: each is written once, and the intent before the effect."""

    def __init__(self, prepared: Prepared, devices: Devices, announced: bool) -> None:
        self._prepared = prepared
        self._devices = devices
        self._announced = announced
        self._began: float | None = None
        self._made: Made | None = None

    async def begin(self, session: Session) -> None:
        if not self._announced:
            await self._devices.recorder.record(self._prepared.intent, then=self._is_announced)
        call, exec_id = self._prepared.call, self._prepared.exec_id
        self._made = Made(int(exec_id, 16) - FIRST_EXEC_ID, call.id, partial(summary, call))
        session.made[exec_id] = self._made
        # Past the intent the call may have happened; its outcome says whether it did.
        self._began = time.monotonic()
        self._devices.recorder.emit(CallStarted(call=self._prepared.call))

    def _is_announced(self) -> None:
        self._announced = True

    async def end(self, outcome: Outcome | None) -> CallOutcome:
        """Write down what came of it; nothing means that it was cancelled."""
        call, outcome = self._prepared.call, outcome or self._cancelled()
        if self._made is not None:
            self._made.running = False
        entry = CallOutcome(
            result=Result(
                call_id=call.id, name=call.name, content=_fitting(outcome.content), error=outcome.error
            ),
            duration_s=0.0 if self._began is None else round(time.monotonic() - self._began, 6),
            details=outcome.details,
        )
        await self._devices.recorder.record(*([entry] if self._announced else [self._prepared.intent, entry]))
        return entry

    def _cancelled(self) -> Outcome:
        whom = {"user": "by the user", "time": "since the session's time is over"}
        # A cancelled call in a turn that goes on was the user's choice as well.
        why = whom[self._devices.interrupt.cause or "user"]
        when = "before it began; nothing was run"
        if self._began is not None:
            when = "while it ran; what it did until then stays done"
        return Outcome(f"cancelled {why}, {when}.", "cancelled")


def _fitting(content: str) -> str:
    """The content, or its head and tail: the end of a result is where it says how a call ended."""
    if len(content) <= MAX_CONTENT:
        return content
    half = MAX_CONTENT // 2
    left_out = len(content) - 2 * half
    return f"{content[:half]}\n[… {left_out:,} characters are left out here …]\n{content[-half:]}"
