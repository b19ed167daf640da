"""Dispatch: the calls of one message, prepared in order, run together, reported in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from harness.events import CallOutcome
from harness.kernel.calls import Devices, Prepared, answer, carry_out, give_up, prepare, refused
from harness.kernel.checkpointing import may_write
from harness.kernel.scheduler import Work, run_together
from harness.messages import Call
from harness.process.session import Session
from harness.syscalls.base import Refused
from harness.syscalls.table import TABLE
from sandbox.errors import SandboxError

MAX_CALLS = 64
"""In one message; those beyond it are refused."""


async def run_calls(
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
