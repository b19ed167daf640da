"""Reconciling (redo/undo): what became of the calls that were announced and of which no outcome is written.

A command is executed under its id, so the sandbox itself can tell: it finished and its result is kept, it
still runs, or it never began. Of anything else only what can be seen afterwards is known. What changes
nothing is simply done again, and what cannot be known is said to be unknown: nothing is guessed, and nothing
is done twice.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from harness.events import FileAhead, OpenCall
from harness.kernel.calls import Devices, Prepared, carry_out, refused
from harness.kernel.scheduler import Work, run_together
from harness.messages import Result
from harness.process.interrupt import Interrupt
from harness.process.session import Session
from harness.recovery.rebuilt import Open
from harness.syscalls.arguments import fetch
from harness.syscalls.base import Access, Arguments, Context, Outcome, Refused, Syscall
from harness.syscalls.bash import Bash, rejoin
from harness.syscalls.merge import Merge
from harness.syscalls.spawn import Spawn, interrupted
from harness.syscalls.table import TABLE
from harness.syscalls.write import Edit, Write, digest_of
from policies.decide import Decision
from sandbox.protocol import Sandbox

GONE = "unknown: the harness ended while this ran and its sandbox is gone; check before repeating"
UNSEEN = "unknown: the harness ended while this ran, and it may be done or not; check before repeating"
NOT_RUN = "not run: the harness ended before this began; nothing of it happened"

REDACTED = "‹redacted:"

Fate = Literal["adopted", "reattached", "again", "not_run", "unknown"]


@dataclass(frozen=True)
class Found:
    """An open call and what is known of it."""

    open: Open
    fate: Fate
    row: Syscall | None = None
    arguments: Arguments | None = None

    @property
    def entry(self) -> OpenCall:
        return OpenCall(call_id=self.open.call.id, name=self.open.call.name, fate=self.fate)


async def look(calls: Sequence[Open], box: Sandbox, *, attached: bool) -> list[Found]:
    """What became of the announced ones; the others have not happened. Changes nothing. SandboxError."""
    found = [await _look(one, box, attached and not one.elsewhere) for one in calls if one.intent is not None]
    # What was redacted in the journal is another call now, which nobody made.
    kept = [
        replace(one, fate="not_run") if one.fate == "again" and _redacted(one.open) else one for one in found
    ]
    return kept + [Found(one, "not_run") for one in calls if one.intent is None and _redacted(one)]


def _redacted(one: Open) -> bool:
    return REDACTED in json.dumps([one.call.arguments, one.call.malformed], ensure_ascii=False)


async def _look(one: Open, box: Sandbox, attached: bool) -> Found:
    assert one.intent is not None
    if one.intent.exec_id is None:
        return Found(one, "again")  # It was refused, and will be for the same reason.
    try:
        row, arguments = fetch(one.call, TABLE)
    except Refused:
        return Found(one, "unknown")
    if row.repeats(arguments):
        return Found(one, "again", row, arguments)
    fate: Fate = "unknown"
    if isinstance(arguments, Bash) and attached:
        fate = await _of_command(box, one.intent.exec_id)
    elif isinstance(arguments, Write | Edit):
        fate = await _of_file(box, one)
    elif isinstance(arguments, Merge) and not _redacted(one):
        fate = "again"  # It finds what is taken over already, and takes the rest.
    return Found(one, fate, row, arguments)


async def _of_command(box: Sandbox, exec_id: str) -> Fate:
    try:
        return "reattached" if (await box.progress(exec_id, 0)).running else "adopted"
    except KeyError:
        return "not_run"


async def _of_file(box: Sandbox, one: Open) -> Fate:
    """By what the file holds: then it makes no difference who wrote it."""
    ahead = one.ahead
    if ahead is None:
        return "again"  # It was not yet known what to write.
    if REDACTED in ahead.path:
        return "unknown"
    found = await digest_of(box, ahead.path) if one.found is None else one.found
    if found is None:
        return "unknown"
    if found == ahead.after:
        return "adopted"
    return "again" if found == ahead.before else "unknown"


async def reconcile(
    found: Sequence[Found], session: Session, devices: Devices, *, attached: bool
) -> Mapping[str, Result]:
    """Write down an outcome for each that is not done again, and return the results by call id.

    Waits for what still runs as its call would have, or ends it once the turn is cancelled. Raises as the
    carrying out of calls does.
    """
    settled: dict[str, Result] = {}
    for one in found:
        stopped = devices.interrupt.cause is not None
        if one.fate == "again" and stopped and isinstance(one.arguments, Merge):
            one = replace(one, fate="unknown")  # A part may be done, and the rest is not wanted any more.
        if one.fate == "again":
            continue
        meets = devices
        if stopped:
            # It is past being cancelled: what became of it is only looked at.
            meets = replace(devices, interrupt=Interrupt())
            if one.fate == "reattached" and one.open.intent is not None:
                await devices.sandbox.kill(one.open.intent.exec_id or "")
        announced = one.open.intent is not None and one.open.intent.exec_id is not None
        known = attached and not one.open.elsewhere
        prepared = _prepared(one, session, known) if announced else _not_made(one, session)
        run = partial(carry_out, prepared, session, meets, announced=one.open.intent is not None)
        with session.budget.working():
            (entry,) = await run_together([Work(Access(), run)], 1)
        settled[entry.result.call_id] = entry.result
    return settled


def _not_made(one: Found, session: Session) -> Prepared:
    text = f"{NOT_RUN}. Its arguments were redacted in the journal: make it again if it is still wanted"
    return refused(one.open.call, session, Refused("not_run", text))


def _prepared(one: Found, session: Session, attached: bool) -> Prepared:
    """The call as it stood when it was announced, with a handler that finds out instead of doing."""
    intent = one.open.intent
    assert intent is not None
    row = one.row or TABLE["plan"]
    return Prepared(
        call=one.open.call,
        exec_id=intent.exec_id or "",
        decision=Decision(intent.decision, intent.rule, ""),
        access=Access(),
        cwd=session.cwd,
        row=replace(row, handler=_handler(one, attached)),
        arguments=one.arguments or Arguments(),
    )


def _handler(one: Found, attached: bool) -> Callable[[Context, Any], Awaitable[Outcome]]:
    match one.fate, one.arguments:
        case (("adopted" | "reattached"), Bash()):
            return rejoin
        case "adopted", Write() | Edit():
            assert one.open.ahead is not None
            return partial(_say, _wrote(one.open.ahead))
        case "not_run", _:
            return partial(_say, Outcome(NOT_RUN, "not_run"))
        case "unknown", Spawn():
            return interrupted
    return partial(_say, Outcome(UNSEEN if attached else GONE, "unknown"))


async def _say(outcome: Outcome, context: Context, arguments: Any) -> Outcome:
    return outcome


def _wrote(ahead: FileAhead) -> Outcome:
    return Outcome(
        f"done: {ahead.path} holds what this call was to write; the harness ended while it was written",
        None,
        {"path": ahead.path, "sha256": ahead.after},
    )
