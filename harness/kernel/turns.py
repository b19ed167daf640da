"""Turns, one after the other (the run queue): each begins with the prompt that waited longest."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

from harness.control.desk import Desk
from harness.errors import BudgetSpent
from harness.events import Notice, TurnDone
from harness.kernel.loop import Kernel, TurnEnded, next_turn
from harness.process.session import Session
from harness.provider import ProviderError

LEFT = TurnEnded("done", "the user left")
Turn = Callable[[], Awaitable[TurnEnded]]


@dataclass(frozen=True)
class Stand:
    """Where the turns of a session begin."""

    turn: Turn | None = None
    """Already known; without one, what waits begins the first."""
    ended: TurnEnded = TurnEnded("done", "nothing was said")  # noqa: RUF009 - frozen, so it may be shared
    """How the last turn ended, where none is known."""
    said: Sequence[str] = ()
    """What the model is to read before the next prompt."""


async def take_turns(kernel: Kernel, session: Session, desk: Desk, stand: Stand) -> TurnEnded:
    """All turns from here on; how the last one ended. Raises as `run_turn` does.

    While its user stays, the session waits for the next prompt, and a turn that failed or was cancelled does
    not end it.
    """
    interrupt = kernel.devices.interrupt
    ended, turn = stand.ended, stand.turn or partial(next_turn, kernel, session, stand.said)
    if stand.turn is None:
        if not await _more(session, desk):
            return LEFT if desk.left else ended
        if desk.attended:
            # A Ctrl-C from before there was anything to stop.
            interrupt.resume()
    while True:
        ended = await _taken(kernel, desk, turn)
        if interrupt.cause is not None and not desk.attended:
            # Who stopped the turn did not ask for the next one.
            desk.held = True
        if not await _more(session, desk):
            return LEFT if desk.left else ended
        interrupt.resume()
        turn = partial(next_turn, kernel, session)


async def _taken(kernel: Kernel, desk: Desk, turn: Turn) -> TurnEnded:
    """A turn; one that the model's service broke off has failed, if there is a user to say what next."""
    recorder = kernel.devices.recorder
    desk.busy = True
    try:
        ended = await turn()
    except ProviderError as exc:
        if not desk.stays:
            raise
        await recorder.record(Notice(level="error", code="provider", text=str(exc)))
        desk.held = True
        ended = TurnEnded("failed", "the model's service did not answer")
    finally:
        desk.busy = False
        desk.moved()
    if desk.attended:
        await recorder.record(TurnDone(status=ended.status, reason=ended.reason))
    return ended


async def _more(session: Session, desk: Desk) -> bool:
    """Wait for something to begin a turn with; the session's time goes on meanwhile."""
    try:
        async with asyncio.timeout(session.budget.remaining_s()):
            return await desk.something_said()
    except TimeoutError:
        raise BudgetSpent("the session's time is over (limits.session_s)") from None
