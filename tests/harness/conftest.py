"""Fixtures for the kernel's tests; what they are made of stands in kernel_double.py."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from kernel_double import MemoryJournal, Run, calls, policy_with

from harness.approvals.grants import Grants
from harness.approvals.petition import Prompter
from harness.approvals.service import Approvals
from harness.events import Event
from harness.kernel.calls import Devices
from harness.kernel.loop import Kernel, Price
from harness.memory.index import Index
from harness.messages import Result
from harness.process.budget import Budget, allowance
from harness.process.interrupt import Interrupt
from harness.process.outlet import Outlet
from harness.process.recorder import Recorder
from harness.process.session import Session
from harness.prompt import system_prompt
from harness.provider import Provider
from harness.providers.scripted import ScriptedProvider
from policies.schema import Policy
from sandbox.memory import MemorySandbox


@pytest.fixture
async def make_session():
    """A factory: `make_session(replies, policy=…, files=…, commands=…)`; `.turn()` runs it."""
    boxes: list[MemorySandbox] = []

    def make(
        replies: Sequence[Any],
        *,
        policy: Policy | None = None,
        files: dict[str, bytes | str] | None = None,
        commands: dict[str, Any] | None = None,
        box: MemorySandbox | None = None,
        provider: Provider | None = None,
        journal: MemoryJournal | None = None,
        prompter: Prompter | None = None,
        outlet: Outlet | None = None,
        price: Price = lambda usage: 0.0,
        watched: bool = False,
        archive: Index | None = None,
    ) -> Run:
        policy = policy or policy_with()
        if box is None:
            box = MemorySandbox(
                policy=policy,
                files={"/workspace/.keep": "", **(files or {})},
                commands={**(commands or {})},
            )
        boxes.append(box)
        journal = journal or MemoryJournal()
        events: list[Event] = []
        recorder = Recorder(journal, events.append)
        approvals = Approvals(recorder, Grants(recorder), policy.sudo.timeout_s, prompter=prompter)
        devices = Devices(box, policy, recorder, Interrupt(), approvals, watched, outlet, archive=archive)
        kernel = Kernel(provider or ScriptedProvider(replies), devices, price, system_prompt(policy))
        return Run(kernel, Session(Budget(allowance(policy.limits))), journal, events, box)

    yield make
    for box in boxes:
        await box.close()


@pytest.fixture
def call_once(make_session) -> Callable[..., Awaitable[Result]]:
    """Make one call in a session of its own and return its result."""

    async def once(name: str, arguments: Any, **options: Any) -> Result:
        run = make_session([calls((name, arguments)), "done"], **options)
        await run.turn()
        return run.results[0]

    return once
