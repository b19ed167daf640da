"""The kernel (agent loop): asks the model, carries out its calls, hands the results back, until it is done.

A plain function over injected collaborators. Everything it learns it emits as events; everything that must
survive it journals first. It knows no screen, no provider and no engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Literal

from harness.errors import BudgetSpent
from harness.events import MessageAdded, Notice
from harness.inbox import Prompt
from harness.kernel.checkpointing import settled
from harness.kernel.collaborators import Kernel, Price, add
from harness.kernel.dispatch import run_calls
from harness.kernel.replies import ask, consult
from harness.loops import notice_text
from harness.memory.assemble import fixed_tokens
from harness.memory.room import make_room
from harness.messages import Call, Message, Result, user
from harness.notices import CUT_OFF
from harness.process.budget import Budget
from harness.process.interrupt import Interrupt
from harness.process.session import Session
from harness.provider import ProviderError
from sandbox.errors import SandboxError

__all__ = ["Kernel", "Price", "TurnEnded", "last_words", "next_turn", "resume_turn", "run_turn"]


@dataclass(frozen=True)
class TurnEnded:
    """How a turn ended when nothing went wrong with the machinery; that is told by exceptions."""

    status: Literal["done", "failed", "interrupted"]
    reason: str


async def run_turn(kernel: Kernel, session: Session, task: str) -> TurnEnded:
    """Work on a user's message until the model answers without calls, or something ends it.

    Raises BudgetSpent, ProviderError (after retries), SandboxError and JournalError. Each call that was asked
    for has its result by then, but for the journal's own failure.
    """

    async def begin() -> None:
        await add(kernel, session, MessageAdded(message=user(task)))

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
        asked = await ask(kernel, session)
    except ProviderError as exc:
        if exc.fault != "context_overflow":
            raise
        await kernel.devices.recorder.record(Notice(level="warning", code="overflow", text=str(exc)))
        return await _make_room(kernel, session, overflowed=True)
    if asked is None:
        return None
    calls = asked.reply.message.calls
    if not calls and asked.reply.stop == "window":
        return await _went_on(kernel, session)
    if not calls:
        # Something may have been said to the model while it spoke its last words.
        return None if session.inbox.steering else last_words(asked.reply.stop)
    outcomes = await run_calls(kernel.devices, session, list(enumerate(calls)), asked.ahead)
    return await _answered(kernel, session, calls, tuple(outcome.result for outcome in outcomes))


async def _went_on(kernel: Kernel, session: Session) -> TurnEnded | None:
    """Make room for the rest of a message that the model's window had no more room for."""
    text = "the model's window was full before its answer was whole"
    await kernel.devices.recorder.record(Notice(level="warning", code="window", text=text))
    stuck = await _make_room(kernel, session, overflowed=True)
    if stuck is None and kernel.devices.interrupt.cause is None:
        await add(kernel, session, MessageAdded(message=user(CUT_OFF)))
    return stuck


async def _take_up(
    kernel: Kernel, session: Session, settle: Callable[[], Awaitable[Mapping[str, Result]]]
) -> TurnEnded | None:
    """Finish the step that was under way when the session was left."""
    last = session.messages[-1] if session.messages else None
    if last is None or last.role != "assistant" or not last.calls:
        return None
    results = dict(await settle())
    # Also in a turn that was cancelled meanwhile: what is left is refused then, and has its result.
    left = [(number, call) for number, call in enumerate(last.calls) if call.id not in results]
    for outcome in await run_calls(kernel.devices, session, left, None):
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


async def _make_room(kernel: Kernel, session: Session, *, overflowed: bool = False) -> TurnEnded | None:
    """Keep the next request under its limit, or below what the model just had no room for. What stands in for
    anything is journalled first.
    """
    recorder = kernel.devices.recorder
    stuck = await make_room(
        session.memory,
        session.messages,
        kernel.devices.limits(session).context_tokens,
        recorder,
        partial(consult, kernel, session),
        overflowed=overflowed,
    )
    if stuck is None:
        return None
    await recorder.record(Notice(level="error", code="context", text=stuck))
    return TurnEnded("failed", f"stopped: {stuck}")


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
    await add(kernel, session, notice, MessageAdded(message=user(notice_text())))
    return None


async def _read(
    kernel: Kernel, session: Session, prompts: Sequence[Prompt], said: Sequence[str] = ()
) -> None:
    """What waited becomes part of the conversation: one entry says both, so neither is without the other."""
    entries = [MessageAdded(message=user(text)) for text in said]
    for prompt in prompts:
        if session.inbox.take(prompt.name) is not None:
            entries.append(MessageAdded(message=user(prompt.text), prompt=prompt.name))
    if entries:
        await add(kernel, session, *entries)


def last_words(stop: str | None) -> TurnEnded:
    """How a turn ends with a message that makes no calls."""
    if stop == "cancelled":
        return TurnEnded("interrupted", "the turn was cancelled by the user")
    if stop in ("length", "window"):
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
