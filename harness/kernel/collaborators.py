"""What the kernel works with: its collaborators, and how a message becomes part of the conversation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from harness.events import Entry, MessageAdded
from harness.kernel.calls import Devices
from harness.messages import Usage
from harness.process.session import Session
from harness.provider import Provider, ToolSpec
from harness.syscalls.table import tool_specs

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


async def add(kernel: Kernel, session: Session, *entries: Entry, told: int = 0) -> None:
    """Messages become part of the session once they are in the journal. `told` is the recorder's."""
    messages = [entry.message for entry in entries if isinstance(entry, MessageAdded)]
    then = partial(session.messages.extend, messages)
    await kernel.devices.recorder.record(*entries, told=told, then=then)
