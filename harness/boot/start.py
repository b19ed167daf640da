"""Boot: everything a session needs, started in order, one line a subsystem, and ended in the reverse order.

What is wrong with the request itself (policy, model, engine, image) is raised before anything is made. From
the session's first journal entry on, every end is a SessionEnded in the journal.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from harness.approvals.petition import Petition, Prompter
from harness.approvals.remembered import Remembered
from harness.approvals.service import Approvals
from harness.boot.asking import approvals_of, gate_of, listen
from harness.boot.beginning import Beginning, begin
from harness.boot.children import Brood
from harness.boot.egress import Outfit, outfit
from harness.boot.machine import Machine, docker_machine
from harness.control.desk import Desk, Talk, attended
from harness.errors import ApprovalRefused, BudgetSpent, JournalError, UsageError
from harness.events import Event, SandboxOpened, SessionEnded
from harness.exits import INTERNAL, INTERRUPTED, SANDBOX
from harness.journal.lock import failure
from harness.kernel.calls import Devices
from harness.kernel.checkpointing import Checkpointer, checkpointing
from harness.kernel.loop import Kernel, Price, run_turn
from harness.kernel.turns import Stand, take_turns
from harness.memory.index import Index
from harness.messages import Usage
from harness.process.budget import Budget, allowance
from harness.process.interrupt import Interrupt
from harness.process.recorder import Recorder
from harness.process.session import Session
from harness.prompt import system_prompt
from harness.providers.base import Provider, ProviderError
from harness.providers.models import open_provider, settled
from harness.providers.prices import cost_usd
from harness.recovery.rebuild import Rebuilt
from harness.recovery.takeup import take_up
from harness.store import Store, home, keep_apart
from harness.trust import in_force
from policies.schema import Policy
from sandbox.egress import Gate
from sandbox.errors import SandboxError
from sandbox.protocol import SandboxSpec

Status = Literal[
    "done", "failed", "refused", "budget", "provider", "sandbox", "journal", "interrupted", "killed"
]


@dataclass(frozen=True)
class RunOptions:
    """What to run. Everything but task, model and policy has a default."""

    task: str
    """Empty where the first prompt is said later."""
    model: str
    """`provider:model`."""
    policy: Policy
    """The user's; a workspace's own file only tightens it, unless it is trusted."""
    workspace: Path | None = None
    """Copied in; None for a session without the user's files."""
    image: str | None = None
    """Instead of the policy's."""
    runtime: Literal["runc", "runsc"] | None = None
    """Instead of the policy's."""
    base_url: str | None = None
    home: Path | None = None
    """Where sessions are kept; None for the user's own place."""
    typed: frozenset[str] = frozenset()
    """Keys of the policy, dotted, that the user typed: no file of a project loosens them."""
    watched: bool = True
    """Whether anybody looks at the output of running commands."""
    prompter: Prompter | None = None
    """Asks the person at this terminal; None where there is none."""
    talk: Talk | None = None
    """Brings what the user says while the session runs; without it the session ends with its task, and what
    other terminals said meanwhile."""


@dataclass(frozen=True)
class _End:
    """Why a session ends, before its changes are counted."""

    status: Status
    exit_code: int
    reason: str


async def run(
    options: RunOptions,
    emit: Callable[[Event], None],
    interrupt: Interrupt,
    *,
    machine: Callable[[], AbstractAsyncContextManager[Machine]] = docker_machine,
) -> SessionEnded:
    """A session from its first to its last entry. Cancelling the task ends it at once, container included.

    Raises PolicyError, UsageError, ProviderError, SandboxError or JournalError where no session could begin.
    """
    async with AsyncExitStack() as stack:
        # The policy: the user's, tightened by the project's file, or loosened where that file is trusted.
        where = options.home or home()
        given = (options.policy, options.workspace, where, options.typed)
        policy, ignored = await asyncio.to_thread(in_force, *given)
        policy, way_out = await outfit(policy, os.environ)
        # What the user has answered for good under it.
        keep_apart(options.workspace, where)
        store = Store(where)
        memory = Remembered(where, options.policy)
        kept = await asyncio.to_thread(memory.load)
        # The model, by a name that a resume can use.
        options = replace(options, model=settled(options.model))
        provider = open_provider(options.model, base_url=options.base_url)
        stack.push_async_callback(provider.aclose)
        price = price_of(options.model, policy)
        # The engine, and the image it would start.
        engine = await stack.enter_async_context(machine())
        image = options.image or policy.container.image
        image_digest = await engine.digest(image)
        # The session's directory and journal: from here on everything is recorded.
        directory = store.new_session()
        beginning = Beginning(
            options.task, options.model, policy, way_out, image, image_digest, options.runtime,
            options.workspace,
        )  # fmt: skip
        recorder = await begin(stack, directory, beginning, emit, *ignored)
        start = Start(
            options, policy, way_out, provider, price, engine, recorder, interrupt,
            Session(Budget(allowance(policy.limits))), memory, kept, directory, image, image_digest,
        )  # fmt: skip
        return await live(stack, start)


@dataclass(frozen=True)
class Start:
    """A session whose journal is open, and all that it needs."""

    options: RunOptions
    policy: Policy
    way_out: Outfit
    provider: Provider
    price: Price
    engine: Machine
    recorder: Recorder
    interrupt: Interrupt
    session: Session
    memory: Remembered | None
    kept: Sequence[Petition]
    """What was answered for good, earlier."""
    directory: Path
    image: str
    image_digest: str
    past: Rebuilt | None = None
    """What its journal told, of a session that is taken up again."""
    line: str = ""
    """The name of a session that another one started, after those above it: `tests/unit`."""

    @property
    def planted(self) -> bool:
        """Whether the workspace is another session's, and stands or is promised before the first sandbox."""
        if self.past is not None:
            return self.past.planted
        return bool(self.line) and self.options.workspace is not None

    def brood(self, approvals: Approvals, gate: Gate | None, checkpoints: Checkpointer | None) -> Brood:
        """What starts this session's children, as this one was started."""
        return Brood(live, self, approvals, gate, checkpoints)


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


async def _guarded(live: _Live, spec: SandboxSpec) -> _End:
    """The session's life; what ends it early, told apart: a broken sandbox is never the model's failure."""
    try:
        return await _work(live, spec)
    except BudgetSpent as exc:
        return _End("budget", exc.exit_code, str(exc))
    except ProviderError as exc:
        return _End("provider", exc.exit_code, str(exc))
    except SandboxError as exc:
        return _End("sandbox", SANDBOX, str(exc))
    except JournalError as exc:
        return _End("journal", exc.exit_code, str(exc))
    except OSError as exc:
        # Whoever met the full disk first: it is the one that the journal needs.
        full = failure(live.start.directory, exc)
        if full.code != "disk_full":
            raise
        return _End("journal", full.exit_code, str(full))


async def _work(live: _Live, spec: SandboxSpec) -> _End:
    start = live.start
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
            await live.approvals.grants.give(petition, "always")
        talk = start.options.talk
        desk = Desk(start.session.inbox, start.recorder, interrupt, attended=talk is not None)
        if not start.line:  # a child is asked through its parent
            await listen(stack, directory, live.approvals, opened.sandbox, start.recorder, desk)
        known = past.checkpoints if past is not None else ()
        checkpoints = await stack.enter_async_context(checkpointing(directory, spec.policy.limits, known))
        devices = Devices(
            sandbox=opened.sandbox,
            policy=start.policy,
            recorder=start.recorder,
            interrupt=interrupt,
            approvals=live.approvals,
            watched=start.options.watched,
            outlet=live.gate,
            keep_out=(directory.parent.parent,),
            archive=Index(directory),
            children=start.brood(live.approvals, live.gate, checkpoints),
            checkpoints=checkpoints,
        )
        kernel = Kernel(start.provider, devices, start.price, system_prompt(start.policy))
        if past is not None:
            stand = await take_up(kernel, past, opened.how)
        elif start.options.task:
            stand = Stand(partial(run_turn, kernel, start.session, start.options.task))
        else:
            stand = Stand()
        async with attended(desk, talk):
            turn = await take_turns(kernel, start.session, desk, stand)
    # Who leaves a chat passes no judgement on what was asked in it.
    if turn.status == "done" and not desk.left and live.approvals.refused is not None:
        return _End("refused", ApprovalRefused.exit_code, f"{turn.reason}, but {live.approvals.refused}")
    codes = {"done": 0, "failed": 1, "interrupted": INTERRUPTED}
    return _End(turn.status, codes[turn.status], turn.reason)


async def _close(start: Start, end: _End) -> SessionEnded:
    """Count what changed, and write the last entry. Where that cannot be written, it is told all the same."""
    budget = start.session.budget
    changes = 0
    if start.options.workspace is not None:
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


def price_of(model: str, policy: Policy) -> Price:
    """What a reply costs. An unknown price is not zero: with a limit on cost nothing starts."""
    if policy.limits.cost_usd is not None and cost_usd(model, Usage()) is None:
        raise UsageError(
            f"the price of {model} is unknown, so the limit of ${policy.limits.cost_usd:g} cannot be kept; "
            "take limits.cost_usd out of the policy, or another model"
        )
    return partial(cost_usd, model)
