"""From a prepared request to a sandbox in use: create, attach, start, greet, measure."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from dataclasses import replace
from functools import partial
from pathlib import Path

from sandbox.container.adjust import adjust
from sandbox.container.box import DockerSandbox
from sandbox.container.rootexec import RootCommands
from sandbox.engine import REQUEST_S, Engine
from sandbox.errors import SandboxError, SandboxGone
from sandbox.lifecycle.prepared import Prepared
from sandbox.lifecycle.record import RECORD, Record
from sandbox.posture import expected, verify
from sandbox.posture.remembered import key
from sandbox.wire.attach import Attachment
from sandbox.wire.channel import GREETING_S, Channel

START_S = REQUEST_S + GREETING_S
"""Until init has answered: the engine's own time for the start, and what init may take."""

END_S = 5.0
"""For a container that was told to end, before it is killed."""


async def launch(prepared: Prepared, engine: Engine) -> DockerSandbox:
    """Create, attach, start, greet, measure. Init says nothing before it is spoken to, so nothing is lost
    whichever of attach and start the engine does first.

    Init answers before the engine does, which has to write down what it started: by the time it has, the
    container is measured.
    """
    container = await engine.create(prepared.config, f"usermode-{prepared.session}-{secrets.token_hex(3)}")
    try:
        attachment = await Attachment.asked(engine.address, container)
    except BaseException:
        await asyncio.shield(_removed(engine, container))
        raise
    channel = Channel(attachment)
    starting = asyncio.ensure_future(engine.start(container))
    # Who waits for a greeting from what was never started is told.
    starting.add_done_callback(lambda done: channel.close() if _failure(done) else None)
    try:
        await attachment.opened()
        box = await _first_words(prepared, engine, container, channel)
        await asyncio.shield(starting)
    except BaseException as error:
        await asyncio.shield(_abandon(prepared, engine, container, channel, starting))
        if isinstance(error, SandboxGone) and (failure := _failure(starting)):
            raise failure from None  # The engine says why; the wire only that.
        raise
    return box


async def _first_words(prepared: Prepared, engine: Engine, container: str, channel: Channel) -> DockerSandbox:
    """Greet and measure. Nothing else runs inside before what was found there equals what is configured."""
    policy, runtime = prepared.policy, prepared.runtime
    record = Record(policy, prepared.environment, prepared.temporary, left=False, runtime=runtime)
    record.save(prepared.state)
    box = box_of(record, prepared.state, prepared.host, container, channel, engine)
    want = expected(policy, prepared.config, runtime)
    known_by = key(policy, prepared.config, runtime, prepared.init, await engine.about())
    await channel.greet(policy.limits.orphan_s, again=False, within_s=START_S)
    box.posture = await verify(box, want, known_by)
    return box


def _failure(done: asyncio.Future[None]) -> BaseException | None:
    return None if done.cancelled() else done.exception()


async def _abandon(
    prepared: Prepared, engine: Engine, container: str, channel: Channel, starting: asyncio.Future[None]
) -> None:
    channel.close()
    # What is removed while it starts may stay in the engine's listing.
    await asyncio.wait([starting])
    await _removed(engine, container)
    (prepared.state / RECORD).unlink(missing_ok=True)


async def _removed(engine: Engine, container: str) -> None:
    with contextlib.suppress(SandboxError):
        await engine.remove(container)


def box_of(
    record: Record,
    state: Path,
    host: contextlib.ExitStack,
    container: str,
    channel: Channel,
    engine: Engine,
) -> DockerSandbox:
    async def ended() -> None:
        await _end(engine, container)
        (state / RECORD).unlink(missing_ok=True)

    async def detached() -> None:
        replace(record, left=True).save(state)
        host.pop_all()

    async def lost() -> None:
        await box.close()

    hold = partial(adjust, engine, container) if record.runtime == "runc" else None
    root = RootCommands(engine, container, lost)
    box = DockerSandbox(container, record.policy, channel, record.environment, ended, detached, hold, root)
    return box


async def _end(engine: Engine, container: str) -> None:
    """After SHUTDOWN, or the loss of the wire: gone for sure."""
    if not await engine.ended(container, END_S):
        await engine.remove(container)
