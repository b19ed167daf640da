"""The kernel (agent loop): asks the model, carries out its calls, hands the results back, until it is done.

A plain function over injected collaborators. Everything it learns it emits as events; everything that must
survive it journals first. It knows no screen, no provider and no engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from harness.budget import Budget
from harness.calls import Devices, Prepared, answer, carry_out, give_up, prepare, refused
from harness.checkpointing import begin_one, finished, may_write, settled
from harness.errors import BudgetSpent
from harness.events import CallOutcome, Entry, MessageAdded, Notice, TextStreamed
from harness.inbox import Prompt
from harness.interrupt import Interrupt
from harness.loops import notice_text
from harness.memory.assemble import fixed_tokens
from harness.memory.room import make_room
from harness.messages import Call, Message, Result, Text, Usage, user
from harness.providers.base import (
    Provider,
    ProviderError,
    Reply,
    Request,
    Restarted,
    TextDelta,
    ThinkingDelta,
    ToolSpec,
)
from harness.providers.retry import stream_with_retry
from harness.scheduler import Work, run_together
from harness.session import Session
from harness.syscalls.arguments import bounded
from harness.syscalls.base import Refused
from harness.syscalls.table import TABLE, tool_specs
from sandbox.errors import SandboxError

MAX_CALLS = 64
"""In one message; those beyond it are refused."""

Price = Callable[[Usage], float | None]
"""Dollars that a reply of the session's model cost, None where the price is unknown."""


@dataclass(frozen=True)
class Kernel:
    """The collaborators of a session. They do not change while it lives."""

    provider: Provider
    devices: Devices
    price: Price
    system: str
    tools: tuple[ToolSpec, ...] = field(default_factory=tool_specs)


@dataclass(frozen=True)
class TurnEnded:
    """How a turn ended when nothing went wrong with the machinery; that is told by exceptions."""

    status: Literal["done", "failed", "interrupted"]
    reason: str


@dataclass(frozen=True)
class _Asked:
    reply: Reply
    ahead: Prepared | None
    """Its only call, when that is announced already."""


async def run_turn(kernel: Kernel, session: Session, task: str) -> TurnEnded:
    """Work on a user's message until the model answers without calls, or something ends it.

    Raises BudgetSpent, ProviderError (after retries), SandboxError and JournalError. Each call that was asked
    for has its result by then, but for the journal's own failure.
    """

    async def begin() -> None:
        await _add(kernel, session, MessageAdded(message=user(task)))

    return await _turn(kernel, session, begin)


async def next_turn(kernel: Kernel, session: Session, said: Sequence[str] = ()) -> TurnEnded:
    """The same with the prompt that waited longest; `said` goes before it."""

    async def begin() -> None:
        await _read(kernel, session, session.inbox.waiting[:1], said)

    return await _turn(kernel, session, begin)


async def resume_turn(
    kernel: Kernel,
    session: Session,
    settle: Callable[[], Awaitable[Mapping[str, Result]]],
    said: Sequence[str],
) -> TurnEnded:
    """Go on where a rebuilt session stands. Raises as `run_turn` does.

    `settle` returns the results that calls of its last message have by now; the others are made, and `said`
    follows.
    """

    async def begin() -> TurnEnded | None:
        ended = await _take_up(kernel, session, settle)
        await _read(kernel, session, (), said)
        return ended

    return await _turn(kernel, session, begin)


async def _turn(
    kernel: Kernel, session: Session, begin: Callable[[], Awaitable[TurnEnded | None]]
) -> TurnEnded:
    """A turn, and the workspace kept as it leaves it."""
    try:
        ended = await _steps(kernel, session, begin)
    except (BudgetSpent, ProviderError, SandboxError):
        await _keep(kernel, session)
        raise
    await _keep(kernel, session)
    return ended


async def _keep(kernel: Kernel, session: Session) -> None:
    if kept := await settled(kernel.devices.checkpoints, session):
        await kernel.devices.recorder.record(*kept)


async def _steps(
    kernel: Kernel, session: Session, begin: Callable[[], Awaitable[TurnEnded | None]]
) -> TurnEnded:
    interrupt = kernel.devices.interrupt
    session.memory.fixed = fixed_tokens(kernel.system, kernel.tools)
    facts = kernel.devices.recorder.facts
    if session.memory.facts is not facts:
        facts.begin_with(session.memory.facts)
        session.memory.facts = facts
    try:
        with _alarm(interrupt, session.budget):
            ended = await begin()
            while True:
                if interrupt.cause == "time":
                    session.budget.check()
                    raise BudgetSpent("the session's time is over (limits.session_s)")
                if interrupt.cause == "user":
                    return TurnEnded("interrupted", "the turn was cancelled by the user")
                if ended is not None:
                    return ended
                ended = await _step(kernel, session)
    except BudgetSpent as exc:
        await kernel.devices.recorder.record(Notice(level="warning", code="budget", text=str(exc)))
        raise


async def _step(kernel: Kernel, session: Session) -> TurnEnded | None:
    """One reply of the model and what it asks for; None when there is more to do."""
    session.budget.check()
    await _read(kernel, session, session.inbox.steering)
    if (stuck := await _make_room(kernel, session)) is not None:
        return stuck
    try:
        asked = await _ask(kernel, session)
    except ProviderError as exc:
        if exc.fault != "context_overflow":
            raise
        return await _make_room(kernel, session, exc)
    if asked is None:
        return None
    calls = asked.reply.message.calls
    if not calls:
        # Something may have been said to the model while it spoke its last words.
        return None if session.inbox.steering else last_words(asked.reply.stop)
    outcomes = await _run_calls(kernel.devices, session, list(enumerate(calls)), asked.ahead)
    return await _answered(kernel, session, calls, tuple(outcome.result for outcome in outcomes))


async def _take_up(
    kernel: Kernel, session: Session, settle: Callable[[], Awaitable[Mapping[str, Result]]]
) -> TurnEnded | None:
    """Finish the step that was under way when the session was left."""
    last = session.messages[-1] if session.messages else None
    if last is None or last.role != "assistant" or not last.calls:
        return None
    results = dict(await settle())
    if kernel.devices.interrupt.cause is not None:
        return None
    left = [(number, call) for number, call in enumerate(last.calls) if call.id not in results]
    for outcome in await _run_calls(kernel.devices, session, left, None):
        results[outcome.result.call_id] = outcome.result
    return await _answered(kernel, session, last.calls, tuple(results[call.id] for call in last.calls))


async def _answered(
    kernel: Kernel, session: Session, calls: Sequence[Call], results: tuple[Result, ...]
) -> TurnEnded | None:
    """The results become part of the conversation."""
    session.messages.append(Message(role="tool", parts=results))
    kernel.devices.recorder.emit(session.budget.changed())
    if kernel.devices.interrupt.cause is not None:
        return None
    return await _repetition(kernel, session, calls, results)


async def _make_room(
    kernel: Kernel, session: Session, refused: ProviderError | None = None
) -> TurnEnded | None:
    """Keep the next request under its limit, or below what the provider just refused. What stays in place of
    anything is journalled first.
    """
    recorder = kernel.devices.recorder
    if refused is not None:
        await recorder.record(Notice(level="warning", code="overflow", text=str(refused)))
    stuck = await make_room(
        session.memory,
        session.messages,
        kernel.devices.limits(session).context_tokens,
        recorder,
        partial(_consult, kernel, session),
        overflowed=refused is not None,
    )
    if stuck is None:
        return None
    await recorder.record(Notice(level="error", code="context", text=stuck))
    return TurnEnded("failed", f"stopped: {stuck}")


async def _consult(kernel: Kernel, session: Session, request: Request) -> tuple[Reply, float | None] | None:
    """A reply that is no part of the conversation, and its price; None when the turn is cancelled."""
    interrupt = kernel.devices.interrupt
    session.budget.check()
    if interrupt.cause is not None:
        return None
    retries: list[Notice] = []
    reply: Reply | None = None
    try:
        with interrupt.scope() as scope, session.budget.working():
            reply = await _stream(kernel, request, [], retries, shown=False)
    finally:
        if retries:
            await kernel.devices.recorder.record(*retries)
    if scope.cancelled or reply is None:
        return None
    cost = kernel.price(reply.usage)
    session.budget.charge(reply.usage, cost)
    return reply, cost


async def _ask(kernel: Kernel, session: Session) -> _Asked | None:
    """The model's reply, journalled; None when the turn is cancelled."""
    interrupt = kernel.devices.interrupt
    if interrupt.cause is not None:
        return None
    said: list[str] = []
    retries: list[Notice] = []
    reply: Reply | None = None
    begin_one(kernel.devices.checkpoints, session)
    with interrupt.scope() as scope, session.budget.working():
        reply = await _stream(kernel, _request(kernel, session), said, retries)
    kept = await finished(kernel.devices.checkpoints)
    if scope.cancelled or reply is None:
        if said:
            # What was said is kept, so that a later turn knows it.
            spoken = Message(role="assistant", parts=(Text(text="".join(said)),))
            await _add(kernel, session, *kept, *retries, MessageAdded(message=spoken, stop="cancelled"))
        elif kept:
            await kernel.devices.recorder.record(*kept)
        return None
    cost = kernel.price(reply.usage)
    session.budget.charge(reply.usage, cost)
    message = bounded(reply.message)
    lost = session.memory.observe(reply.usage)
    ahead = _ahead(kernel.devices, session, message.calls)
    await _add(
        kernel,
        session,
        *kept,
        *retries,
        *(Notice(level="warning", code="repaired", text=note) for note in reply.notes),
        *([lost] if lost is not None else []),
        MessageAdded(message=message, usage=reply.usage, stop=reply.stop, cost_usd=cost),
        *([ahead.intent] if ahead is not None else []),
    )
    kernel.devices.recorder.emit(session.budget.changed())
    return _Asked(Reply(message, reply.usage, reply.stop), ahead)


def _ahead(devices: Devices, session: Session, calls: Sequence[Call]) -> Prepared | None:
    """A single call that may run at once: its intent goes to the disk together with the message."""
    if len(calls) != 1 or devices.interrupt.cause is not None:
        return None
    prepared = prepare(calls[0], session, devices.policy)
    runs = prepared.refusal is None and prepared.decision.action == "allow"
    return prepared if runs else None


def _request(kernel: Kernel, session: Session) -> Request:
    messages = session.memory.assemble(session.messages)
    return Request(kernel.system, messages, kernel.tools, replies=session.memory.replies)


async def _stream(
    kernel: Kernel, request: Request, said: list[str], retries: list[Notice], *, shown: bool = True
) -> Reply:
    """Show the reply while it comes; `said` and `retries` hold what there is of it at any moment."""

    def on_retry(error: ProviderError, attempt: int, wait_s: float) -> None:
        text = f"{error}; attempt {attempt} in {wait_s:.0f} s"
        retries.append(Notice(level="warning", code="retry", text=text))
        kernel.devices.recorder.emit(retries[-1])

    async with aclosing(stream_with_retry(kernel.provider, request, on_retry)) as deltas:
        async for delta in deltas:
            if isinstance(delta, Reply):
                return delta
            if isinstance(delta, Restarted):
                said.clear()
                continue
            if isinstance(delta, TextDelta):
                said.append(delta.text)
            if shown:
                kernel.devices.recorder.emit(
                    TextStreamed(text=delta.text, thinking=isinstance(delta, ThinkingDelta))
                )
    raise ProviderError("garbage", "the model's stream ended without a reply")


async def _run_calls(
    devices: Devices, session: Session, calls: Sequence[tuple[int, Call]], ahead: Prepared | None
) -> list[CallOutcome]:
    """Every call's outcome, in the order of the calls; each comes with its place in the message."""
    session.written = session.written or may_write(calls)
    if ahead is not None:
        run = partial(carry_out, ahead, session, devices, announced=True)
        with session.budget.working():
            return await run_together([Work(ahead.access, run)], 1)
    outcomes: list[CallOutcome] = []
    for group in _groups(calls):
        try:
            prepared = [await _prepared(devices, session, number, call) for number, call in group]
            work = [Work(one.access, partial(carry_out, one, session, devices)) for one in prepared]
            with session.budget.working():
                outcomes += await run_together(work, devices.policy.limits.calls_at_once)
        except SandboxError:
            for _, call in calls[calls.index(group[-1]) + 1 :]:
                await give_up(call, session, devices)
            raise
    return outcomes


def _groups(calls: Sequence[tuple[int, Call]]) -> Iterator[list[tuple[int, Call]]]:
    """Calls that are prepared together: up to one that may change the directory, which runs alone anyway."""
    group: list[tuple[int, Call]] = []
    for number, call in calls:
        group.append((number, call))
        row = TABLE.get(call.name)
        if row is not None and row.moves:
            yield group
            group = []
    if group:
        yield group


async def _prepared(devices: Devices, session: Session, number: int, call: Call) -> Prepared:
    if number >= MAX_CALLS:
        text = f"not run: a message holds at most {MAX_CALLS} calls; make the rest in the next one"
        return refused(call, session, Refused("busy", text))
    prepared = prepare(call, session, devices.policy)
    if devices.interrupt.cause is not None:
        return prepared
    with devices.interrupt.scope(call.id) as scope:
        prepared = await answer(prepared, devices)
    if scope.cancelled and prepared.refusal is None:
        return refused(call, session, Refused("cancelled", "cancelled by the user, before it began"))
    return prepared


async def _repetition(
    kernel: Kernel, session: Session, calls: Sequence[Call], results: Sequence[Result]
) -> TurnEnded | None:
    """Tell the model that it goes in circles; end the turn when telling did not help."""
    verdict = session.loops.observe(calls, results)
    if verdict is None:
        return None
    text = "the same calls came with the same results again and again"
    if verdict == "stop":
        await kernel.devices.recorder.record(Notice(level="error", code="loop", text=text))
        return TurnEnded("failed", f"stopped: {text}")
    notice = Notice(level="warning", code="loop", text=text)
    await _add(kernel, session, notice, MessageAdded(message=user(notice_text())))
    return None


async def _add(kernel: Kernel, session: Session, *entries: Entry) -> None:
    """Messages become part of the session once they are in the journal."""
    await kernel.devices.recorder.record(*entries)
    session.messages += [entry.message for entry in entries if isinstance(entry, MessageAdded)]


async def _read(
    kernel: Kernel, session: Session, prompts: Sequence[Prompt], said: Sequence[str] = ()
) -> None:
    """What waited becomes part of the conversation: one entry says both, so neither is without the other."""
    entries = [MessageAdded(message=user(text)) for text in said]
    for prompt in prompts:
        if session.inbox.take(prompt.name) is not None:
            entries.append(MessageAdded(message=user(prompt.text), prompt=prompt.name))
    if entries:
        await _add(kernel, session, *entries)


def last_words(stop: str | None) -> TurnEnded:
    """How a turn ends with a message that makes no calls."""
    if stop == "cancelled":
        return TurnEnded("interrupted", "the turn was cancelled by the user")
    if stop == "length":
        return TurnEnded("failed", "the model's answer was cut off at its length limit")
    if stop == "refusal":
        return TurnEnded("failed", "the model refused the task")
    return TurnEnded("done", "the model answered")


@contextmanager
def _alarm(interrupt: Interrupt, budget: Budget) -> Iterator[None]:
    """Cancel the turn when the session's time runs out, whatever it is doing."""
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle

    def ring() -> None:
        nonlocal timer
        # The user may have given the session more time meanwhile.
        if (left := budget.remaining_s()) > 0:
            timer = loop.call_later(left, ring)
        else:
            interrupt.cancel_turn("time")

    timer = loop.call_later(budget.remaining_s(), ring)
    try:
        yield
    finally:
        timer.cancel()
