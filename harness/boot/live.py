"""A session's life, from the open journal to its last entry: one line a subsystem, and back again.

Whatever ends it is a SessionEnded in the journal.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Literal

from harness.approvals.service import Approvals
from harness.boot.asking import approvals_of, gate_of, listen
from harness.boot.children import Brood
from harness.boot.parts import Start
from harness.control.desk import Desk, attended
from harness.errors import ApprovalRefused, BudgetSpent, JournalError
from harness.events import Notice, SandboxOpened, SessionEnded
from harness.exits import INTERNAL, INTERRUPTED, SANDBOX
from harness.journal.lock import failure
from harness.kernel.calls import Devices
from harness.kernel.checkpointing import checkpointing
from harness.kernel.loop import Kernel, run_turn
from harness.kernel.turns import Stand, take_turns
from harness.memory.index import Index
from harness.prompt import system_prompt
from harness.provider import ProviderError
from harness.recovery.takeup import take_up
from sandbox.egress import Gate
from sandbox.errors import SandboxError, WorkspaceLost
from sandbox.protocol import SandboxSpec
from sandbox.workspace.manifest import maybe_lost

Status = Literal[
    "done", "failed", "refused", "budget", "provider", "sandbox", "journal", "interrupted", "killed"
]


@dataclass(frozen=True)
class _End:
    """Why a session ends, before its changes are counted."""

    status: Status
    exit_code: int
    reason: str
    countable: bool = True
    """Whether there is a workspace whose changes can be."""


async def live(stack: AsyncExitStack, start: Start) -> SessionEnded:
    """From the open journal to the session's last entry."""
    policy, session, recorder, options = start.policy, start.session, start.recorder, start.options
    # Questions to the user, the answers that stand, and the way out that some of them open.
    approvals = approvals_of(stack, policy, recorder, prompter=options.prompter, memory=start.memory)
    if session.limits is not None:  # given by the user before the session was left
        policy = policy.model_copy(update={"limits": session.limits})
    gate = gate_of(policy, start.way_out, approvals, session, recorder)
    if start.past is not None:
        approvals.grants.restore(start.past.grants, start.past.granted)
        approvals.go_on_from(start.past.asked)
        if gate is not None:
            gate.account(**asdict(start.past.traffic), connections=start.past.connections)
    spec = SandboxSpec(
        policy=policy,
        image=start.image,
        image_digest=start.image_digest,
        workspace=options.workspace,
        state=start.directory,
        session=start.directory.name,
        runtime=options.runtime,
        gate=gate,
        reopen=start.planted,
    )
    # The sandbox with the workspace's copy, and in it the kernel; the sandbox is gone when this returns.
    going = _Live(start, approvals, gate)
    try:
        end = await _guarded(going, spec)
    except asyncio.CancelledError:
        killed = _End("killed", INTERRUPTED, "the session was left at once")
        await _close(start, killed)
        raise
    except Exception as exc:
        fault = _End("failed", INTERNAL, f"a fault of usermode itself: {type(exc).__name__}: {exc}")
        await _close(start, fault)
        raise
    return await _close(start, end)


@dataclass(frozen=True)
class _Live:
    """A session that has begun."""

    start: Start
    approvals: Approvals
    gate: Gate | None


async def _guarded(going: _Live, spec: SandboxSpec) -> _End:
    """The session's life; what ends it early, told apart: a broken sandbox is never the model's failure."""
    try:
        return await _work(going, spec)
    except BudgetSpent as exc:
        return _End("budget", exc.exit_code, str(exc))
    except ProviderError as exc:
        return _End("provider", exc.exit_code, str(exc))
    except WorkspaceLost as exc:
        return _End("failed", SANDBOX, str(exc), countable=False)
    except SandboxError as exc:
        return _End("sandbox", SANDBOX, str(exc))
    except JournalError as exc:
        return _End("journal", exc.exit_code, str(exc))
    except OSError as exc:
        # Whoever met the full disk first: it is the one that the journal needs.
        full = failure(going.start.directory, exc)
        if full.code != "disk_full":
            raise
        return _End("journal", full.exit_code, str(full))


async def _work(going: _Live, spec: SandboxSpec) -> _End:
    start = going.start
    past, directory, interrupt = start.past, start.directory, start.interrupt
    async with AsyncExitStack() as stack:
        if interrupt.cause is None:
            opening = start.engine.open(spec) if past is None else start.engine.again(spec, past.ref)
            with interrupt.scope():
                opened = await stack.enter_async_context(opening)
        if interrupt.cause is not None:
            return _End("interrupted", INTERRUPTED, "the session was cancelled before it began")
        facts = [fact for fact in (opened.posture, opened.copied) if fact is not None]
        if opened.how != "attached":
            await start.recorder.record(SandboxOpened(ref=opened.sandbox.ref), *facts)
        for petition in start.kept:
            await going.approvals.grants.give(petition, "always")
        talk = start.options.talk
        desk = Desk(start.session.inbox, start.recorder, interrupt, attended=talk is not None)
        if not start.line:  # a child is asked through its parent
            await listen(stack, directory, going.approvals, opened.sandbox, start.recorder, desk)
        known = past.checkpoints if past is not None else ()
        checkpoints = await stack.enter_async_context(checkpointing(directory, spec.policy.limits, known))
        devices = Devices(
            sandbox=opened.sandbox,
            policy=start.policy,
            recorder=start.recorder,
            interrupt=interrupt,
            approvals=going.approvals,
            watched=start.options.watched,
            outlet=going.gate,
            keep_out=(directory.parent.parent,),
            archive=Index(directory),
            children=Brood(live, start, going.approvals, going.gate, checkpoints),
            checkpoints=checkpoints,
        )
        kernel = Kernel(start.provider, devices, start.price, system_prompt(start.policy))
        if past is not None:
            if opened.damaged:
                await start.recorder.record(
                    Notice(level="warning", code="workspace", text=maybe_lost(directory))
                )
            stand = await take_up(kernel, past, opened.how, damaged=opened.damaged)
        elif start.options.task:
            stand = Stand(partial(run_turn, kernel, start.session, start.options.task))
        else:
            stand = Stand()
        async with attended(desk, talk):
            turn = await take_turns(kernel, start.session, desk, stand)
    # Who leaves a chat passes no judgement on what was asked in it.
    if turn.status == "done" and not desk.left and going.approvals.refused is not None:
        return _End("refused", ApprovalRefused.exit_code, f"{turn.reason}, but {going.approvals.refused}")
    codes = {"done": 0, "failed": 1, "interrupted": INTERRUPTED}
    return _End(turn.status, codes[turn.status], turn.reason)


async def _close(start: Start, end: _End) -> SessionEnded:
    """Count what changed, and write the last entry. Where that cannot be written, it is told all the same."""
    budget = start.session.budget
    changes = 0
    if start.options.workspace is not None and end.countable:
        try:
            changes = await start.engine.changes(start.directory)
        except (SandboxError, OSError) as exc:
            end = replace(end, reason=f"{end.reason}; the changes could not be counted: {exc}")
    ended = SessionEnded(
        status=end.status,
        exit_code=end.exit_code,
        reason=end.reason,
        turns=budget.turns,
        usage=budget.usage,
        changes=changes,
        waiting=len(start.session.inbox),
    )
    try:
        await start.recorder.record(ended)
    except JournalError as exc:
        broken = {"status": "journal", "exit_code": exc.exit_code, "reason": str(exc)}
        ended = ended.model_copy(update=broken)
        start.recorder.emit(ended)
    return ended
