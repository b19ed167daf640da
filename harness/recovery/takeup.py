"""Going on (restart): the rebuilt session on its sandbox, from the very step at which it was left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from harness.events import TakenUp
from harness.kernel import Kernel, TurnEnded, last_words, resume_turn
from harness.messages import Message, Result
from harness.recovery.rebuild import Rebuilt
from harness.recovery.reconcile import look, reconcile

NEW_BOX = (
    "[usermode] The session was interrupted and its container is gone. It goes on in a new one: {kept} and "
    "everything else is as the image has it. Background jobs and running programs have ended."
)


def finished(past: Rebuilt) -> bool:
    """Whether the model has said its last word, so that only a new message makes it go on."""
    messages = past.session.messages
    return bool(messages) and messages[-1].role == "assistant" and not messages[-1].calls


async def take_up(
    kernel: Kernel, past: Rebuilt, how: Literal["new", "attached", "reopened"], message: str
) -> TurnEnded:
    """The turn that was under way, to its end, and then `message`, if there is one. Raises as `run_turn`."""
    session, devices = past.session, kernel.devices
    attached = how == "attached"
    if not attached:
        session.lose_jobs()
    found = await look(past.open, devices.sandbox, session, attached=attached)
    await devices.recorder.record(TakenUp(sandbox=how, calls=tuple(one.entry for one in found)))
    if finished(past) and not message:
        return last_words(past.stop)

    async def settle() -> Mapping[str, Result]:
        return {**past.settled, **await reconcile(found, session, devices, attached=attached)}

    said: list[str] = []
    if not any(_of_user(one) for one in session.messages):
        said.append(past.started.task)
    elif not attached:
        stands = past.started.workspace is not None and how == "reopened"
        kept = "the workspace is as it was left," if stands else "the workspace is empty,"
        said.append(NEW_BOX.format(kept=kept))
    if message:
        said.append(message)
    return await resume_turn(kernel, session, settle, said)


def _of_user(message: Message) -> bool:
    return message.role == "user"
