"""Asking the model: a request goes out, what it says is shown while it comes, and its reply is journalled."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from harness.events import MessageAdded, Notice, TextStreamed
from harness.kernel.calls import Devices, Prepared, prepare
from harness.kernel.checkpointing import begin_one, finished
from harness.kernel.collaborators import Kernel, add
from harness.messages import Call, Message, Text
from harness.process.session import Session
from harness.provider import ProviderError, Reply, Request, Restarted, TextDelta, ThinkingDelta
from harness.providers.retry import stream_with_retry
from harness.syscalls.arguments import bounded, distinct


@dataclass(frozen=True)
class Asked:
    reply: Reply
    ahead: Prepared | None
    """Its only call, when that is announced already."""


async def ask(kernel: Kernel, session: Session) -> Asked | None:
    """The model's reply, journalled; None when the turn is cancelled."""
    interrupt = kernel.devices.interrupt
    if interrupt.cause is not None:
        return None
    said: list[str] = []
    retries: list[Notice] = []
    reply: Reply | None = None
    begin_one(kernel.devices.checkpoints, session)
    with interrupt.scope() as scope, session.budget.working():
        reply = await _granted(kernel, session, _request(kernel, session), said, retries)
    kept = await finished(kernel.devices.checkpoints)
    if scope.cancelled or reply is None:
        if said:
            # What was said is kept, so that a later turn knows it.
            spoken = MessageAdded(
                message=Message(role="assistant", parts=(Text(text="".join(said)),)), stop="cancelled"
            )
            await add(kernel, session, *retries, *kept, spoken, told=len(retries))
        elif kept:
            await kernel.devices.recorder.record(*kept)
        return None
    cost = kernel.price(reply.usage)
    session.budget.charge(reply.usage, cost)
    message = distinct(bounded(reply.message))
    lost = session.memory.observe(reply.usage)
    ahead = _ahead(kernel.devices, session, message.calls)
    await add(
        kernel,
        session,
        *retries,
        *kept,
        *(Notice(level="warning", code="repaired", text=note) for note in reply.notes),
        *([lost] if lost is not None else []),
        MessageAdded(message=message, usage=reply.usage, stop=reply.stop, cost_usd=cost),
        *([ahead.intent] if ahead is not None else []),
        told=len(retries),
    )
    kernel.devices.recorder.emit(session.budget.changed())
    return Asked(Reply(message, reply.usage, reply.stop), ahead)


async def consult(kernel: Kernel, session: Session, request: Request) -> tuple[Reply, float | None] | None:
    """A reply that is no part of the conversation, and its price; None when the turn is cancelled."""
    interrupt = kernel.devices.interrupt
    session.budget.check()
    if interrupt.cause is not None:
        return None
    retries: list[Notice] = []
    reply: Reply | None = None
    try:
        with interrupt.scope() as scope, session.budget.working():
            reply = await _granted(kernel, session, request, [], retries, shown=False)
    finally:
        if retries:
            await kernel.devices.recorder.record(*retries, told=len(retries))
    if scope.cancelled or reply is None:
        return None
    cost = kernel.price(reply.usage)
    session.budget.charge(reply.usage, cost)
    return reply, cost


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


async def _granted(
    kernel: Kernel,
    session: Session,
    request: Request,
    said: list[str],
    retries: list[Notice],
    *,
    shown: bool = True,
) -> Reply:
    """The reply, asked for at less length where the service grants no more; else it is an overflow."""
    while True:
        asked = replace(request, max_output_tokens=min(request.max_output_tokens, session.memory.output))
        try:
            return await _stream(kernel, asked, said, retries, shown=shown)
        except ProviderError as exc:
            if exc.fault != "output_limit":
                raise
            if not session.memory.ask_less(asked.max_output_tokens):
                raise ProviderError("context_overflow", str(exc)) from exc
            text = f"{exc}; asking for replies of {session.memory.output:,} tokens at most"
            retries.append(Notice(level="warning", code="output", text=text))
            kernel.devices.recorder.emit(retries[-1])


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
