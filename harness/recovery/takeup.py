"""Going on (restart): the rebuilt session on its sandbox, from the very step at which it was left."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Literal

from harness.events import TakenUp
from harness.kernel.loop import Kernel, last_words, resume_turn
from harness.kernel.turns import Stand
from harness.messages import Message, Result
from harness.notices import DAMAGED, EMPTY, FORKED, KEPT, NEW_BOX
from harness.recovery.rebuilt import Rebuilt
from harness.recovery.reconcile import look, reconcile


def finished(past: Rebuilt) -> bool:
    """Whether nothing is under way, so that only what the user says makes it go on."""
    messages = past.session.messages
    if past.rested or not messages:
        return past.rested or not past.started.task
    return messages[-1].role == "assistant" and not messages[-1].calls


async def take_up(
    kernel: Kernel, past: Rebuilt, how: Literal["new", "attached", "reopened"], *, damaged: bool = False
) -> Stand:
    """Where its turns go on: in the one that was under way, or with what the user says. SandboxError."""
    session, devices = past.session, kernel.devices
    attached = how == "attached"
    if not attached:
        session.lose_jobs()
    found = await look(past.open, devices.sandbox, attached=attached)
    await devices.recorder.record(TakenUp(sandbox=how, calls=tuple(one.entry for one in found)))

    async def settle() -> Mapping[str, Result]:
        return {**past.settled, **await reconcile(found, session, devices, attached=attached)}

    said: list[str] = []
    if past.started.task and not any(_of_user(one) for one in session.messages):
        said.append(past.started.task)
    elif past.planted:
        said.append(FORKED)
    elif session.messages and (not attached or past.moved):
        stands = past.started.workspace is not None and how != "new"
        kept = DAMAGED if damaged else KEPT if stands else EMPTY
        said.append(NEW_BOX.format(kept=kept))
    if finished(past):
        return Stand(ended=last_words(past.stop), said=said)
    return Stand(partial(resume_turn, kernel, session, settle, said))


def _of_user(message: Message) -> bool:
    return message.role == "user"
