"""Boot: everything a session needs, had in order, one line a subsystem.

What is wrong with the request itself (policy, model, engine, image) is raised before anything is made. From
the session's first journal entry on, every end is a SessionEnded in the journal.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import replace

from harness.approvals.remembered import Remembered
from harness.boot.beginning import Beginning, begin
from harness.boot.egress import outfit
from harness.boot.live import live
from harness.boot.machine import Machine, docker_machine
from harness.boot.parts import RunOptions, Start, price_of
from harness.events import Event, SessionEnded
from harness.process.budget import Budget, allowance
from harness.process.interrupt import Interrupt
from harness.process.session import Session
from harness.providers.models import open_provider, service, settled
from harness.store import Store, home, keep_apart
from harness.trust import in_force


async def run(
    options: RunOptions,
    emit: Callable[[Event], None],
    interrupt: Interrupt,
    *,
    machine: Callable[[], AbstractAsyncContextManager[Machine]] = docker_machine,
) -> SessionEnded:
    """A session from its first to its last entry. Cancelling the task ends it at once, container included.

    Raises PolicyError, UsageError, ProviderError, SandboxError or JournalError where no session could begin.
    """
    async with AsyncExitStack() as stack:
        # The policy: the user's, tightened by the project's file, or loosened where that file is trusted.
        where = options.home or home()
        given = (options.policy, options.workspace, where, options.typed)
        policy, ignored = await asyncio.to_thread(in_force, *given)
        policy, way_out = await outfit(policy, os.environ)
        # What the user has answered for good under it.
        keep_apart(options.workspace, where)
        store = Store(where)
        memory = Remembered(where, options.policy)
        kept = await asyncio.to_thread(memory.load)
        # The model, by a name that a resume can use.
        options = replace(options, model=settled(options.model))
        options = replace(options, base_url=service(options.model, options.base_url))
        provider = open_provider(options.model, base_url=options.base_url)
        stack.push_async_callback(provider.aclose)
        price = price_of(options.model, policy)
        # The engine, and the image it would start.
        engine = await stack.enter_async_context(machine())
        image = options.image or policy.container.image
        image_digest = await engine.digest(image)
        # The session's directory and journal: from here on everything is recorded.
        directory = store.new_session()
        beginning = Beginning(
            options.task, options.model, policy, way_out, image, image_digest, options.runtime,
            options.workspace, service=options.base_url,
        )  # fmt: skip
        recorder = await begin(stack, directory, beginning, emit, *ignored)
        start = Start(
            options, policy, way_out, provider, price, engine, recorder, interrupt,
            Session(Budget(allowance(policy.limits))), memory, kept, directory, image, image_digest,
        )  # fmt: skip
        return await live(stack, start)
