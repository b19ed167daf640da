"""Opening and leaving sandboxes: create, attach, start, greet; and the way back to one that was left running.

The order is fixed by what a failure may leave behind: everything that is made is registered for removal
before the next thing is made, and a sandbox that cannot be had exactly as configured is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from sandbox import owner
from sandbox.container.box import DockerSandbox
from sandbox.engine import Engine
from sandbox.errors import SandboxError, SandboxGone, SandboxRefused
from sandbox.lifecycle.launching import box_of, launch
from sandbox.lifecycle.prepared import fill, prepare, undo_with
from sandbox.lifecycle.record import Record
from sandbox.protocol import Gatekeeper, SandboxSpec
from sandbox.wire.attach import Attachment
from sandbox.wire.channel import Channel
from sandbox.workspace.hostdisk import HostDisk
from sandbox.workspace.quota import Storage, flush, storage_of
from sandbox.workspace.watchdog import Watchdog


@contextlib.asynccontextmanager
async def open_sandbox(spec: SandboxSpec, *, engine: Engine | None = None) -> AsyncIterator[DockerSandbox]:
    """A fresh container with a copy of the workspace; the block's end removes it, unless `detach` was said.

    EngineMissing, ImageMissing, or SandboxRefused: policy, image or workspace cannot be had as configured.
    """
    async with contextlib.AsyncExitStack() as stack:
        if engine is None:
            engine = await Engine.connect()
            stack.push_async_callback(engine.close)
        yield await open_in(stack, spec, engine)


async def open_in(stack: contextlib.AsyncExitStack, spec: SandboxSpec, engine: Engine) -> DockerSandbox:
    """As `open_sandbox`, with everything that must be undone registered on `stack`."""
    prepared = await prepare(stack, spec, engine, storage=spec.workspace is not None)
    async with _meanwhile(prepared.planting):
        box = await launch(prepared, engine)
        stack.push_async_callback(box.close)
    if spec.workspace is not None and not spec.reopen:
        box.copy_report = prepared.report or await fill(prepared, spec.workspace)
    await watch(stack, engine, box, prepared.storage)
    if spec.gate is not None:
        await box.let_out(spec.gate)
    return box


@contextlib.asynccontextmanager
async def _meanwhile(work: Callable[[], None] | None) -> AsyncIterator[None]:
    """Do this in another thread beside the block. Both are over afterwards, whatever came of either."""
    if work is None:
        yield
        return
    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        yield
        await asyncio.shield(running)
    finally:
        # A thread cannot be cancelled, and what it writes to is unmounted next.
        await asyncio.wait([running])
        running.exception()


async def watch(
    stack: contextlib.AsyncExitStack, engine: Engine, box: DockerSandbox, storage: Storage | None
) -> None:
    """Where a file system does not keep its limit itself, somebody has to."""

    async def exceeded(reason: str) -> None:
        await box.stop_for_disk()

    watched = [storage.grows] if storage is not None and not storage.exact else []
    if box.policy.container.writable_root:
        watched.append(await _upper_directory(engine, box.ref))
    if storage is not None and storage.exact:
        state = storage.session_dir

        async def filled(reason: str) -> None:
            await box.stop_for_disk()
            # While there is room for it: what only the guest's file system holds would be lost.
            with contextlib.suppress(SandboxError):
                await asyncio.to_thread(flush, state)

        await stack.enter_async_context(HostDisk(state, filled))
    for path in watched:
        await stack.enter_async_context(Watchdog(path, box.policy.limits, exceeded))


async def _upper_directory(engine: Engine, container: str) -> Path:
    """What a container writes into its root. SandboxRefused where it cannot be watched."""
    driver = (await engine.inspect(container)).get("GraphDriver") or {}
    upper = Path((driver.get("Data") or {}).get("UpperDir") or "/nonexistent")
    if not os.access(upper, os.R_OK | os.X_OK):
        raise SandboxRefused(
            "a writable root needs its disk use watched, and this process may not look at it; "
            "run as root, or set container.writable_root to false"
        )
    return upper


@contextlib.asynccontextmanager
async def attach_sandbox(
    ref: str, *, engine: Engine | None = None, gate: Gatekeeper | None = None
) -> AsyncIterator[DockerSandbox]:
    """Return to a sandbox that another harness left with `detach`, or died over. The block's end closes it.

    The way out is this `gate`, or none: the one of before has gone with its harness.

    SandboxGone when there is none any more; SandboxRefused when it is no sandbox of ours.
    """
    async with contextlib.AsyncExitStack() as stack:
        if engine is None:
            engine = await Engine.connect()
            stack.push_async_callback(engine.close)
        state, record = await _find(engine, ref)
        host = stack.enter_context(contextlib.ExitStack())
        owner.claim(state)
        undo_with(host, state, temporary=record.temporary)
        channel = Channel(await Attachment.open(engine.address, ref))
        try:
            known = await channel.greet(record.policy.limits.orphan_s, again=True)
        except BaseException:
            channel.close()
            raise
        box = box_of(record, state, host, ref, channel, engine)
        box.resume(known)
        stack.push_async_callback(box.close)
        storage = storage_of(state) if (state / "workspace").exists() else None
        await watch(stack, engine, box, storage)
        if gate is not None:
            await box.let_out(gate)
        yield box


async def _find(engine: Engine, ref: str) -> tuple[Path, Record]:
    try:
        facts = await engine.inspect(ref)
    except KeyError:
        raise SandboxGone(f"the sandbox is gone: no container {ref[:12]} on this engine") from None
    labels = facts["Config"].get("Labels") or {}
    if owner.STATE not in labels:
        raise SandboxRefused(f"container {ref[:12]} is no sandbox of ours")
    if not facts["State"].get("Running"):
        raise SandboxGone(f"the sandbox is gone: container {ref[:12]} has ended")
    state = Path(labels[owner.STATE])
    try:
        return state, Record.load(state)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise SandboxRefused(
            f"the record of container {ref[:12]} cannot be read ({error}), so nobody can return to it; "
            "`usermode kill` removes it, and `usermode resume` goes on without it"
        ) from error
