"""The machine that boot starts: the engine under the sandboxes, a seam so that tests can bring their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

from harness.events import PostureMeasured, WorkspaceCopied
from sandbox.engine import Engine
from sandbox.errors import SandboxGone
from sandbox.lifecycle.opening import attach_sandbox, open_sandbox
from sandbox.owner import SESSION
from sandbox.posture.check import Posture
from sandbox.protocol import Sandbox, SandboxSpec
from sandbox.workspace import manifest
from sandbox.workspace.compare import changes
from sandbox.workspace.quota import bound_to, damaged, promised, remove

MAX_EXCLUDED = 200
"""Paths left out of the copy that are named in the journal; the rest is counted."""


@dataclass(frozen=True)
class Opened:
    sandbox: Sandbox
    copied: WorkspaceCopied | None
    """What of the user's directory went in."""
    posture: PostureMeasured | None = None
    """What was measured inside; a machine without walls of its own has none."""
    how: Literal["new", "attached", "reopened"] = "new"
    """Returned to the same container, or opened a new one over the same workspace."""
    damaged: bool = False
    """Whether something that was written to that workspace may be missing in it."""


class Machine(Protocol):
    """Where a session's sandbox comes from. Every method raises SandboxError for what is not to be had."""

    async def digest(self, image: str) -> str:
        """What the reference stands for today."""

    def open(self, spec: SandboxSpec) -> AbstractAsyncContextManager[Opened]:
        """A sandbox exactly as specified; the block's end removes it."""

    def again(self, spec: SandboxSpec, ref: str | None) -> AbstractAsyncContextManager[Opened]:
        """The session's sandbox `ref` if it still runs, else a new one over the workspace as it stands.

        Without a `ref` none was ever opened whole, and all begins anew, but for a workspace that was made
        before (`spec.reopen`). What else is left of the session's
        containers is removed: nothing that is on record happened there.
        """

    async def abandon(self, state: Path) -> None:
        """Remove what a harness that was killed left of the session of this directory, its tree included."""

    async def changes(self, state: Path) -> int:
        """Changes that wait to be reviewed, once the sandbox is gone."""


@dataclass(frozen=True)
class DockerMachine:
    engine: Engine

    async def digest(self, image: str) -> str:
        return (await self.engine.image(image)).digest

    @asynccontextmanager
    async def open(self, spec: SandboxSpec) -> AsyncIterator[Opened]:
        async with open_sandbox(spec, engine=self.engine) as box:
            report = box.copy_report
            copied = None
            if report is not None:
                excluded = tuple(f"{path}: {reason}" for path, reason in report.excluded[:MAX_EXCLUDED])
                copied = WorkspaceCopied(
                    mode=report.mode,
                    files=report.files,
                    bytes=report.bytes,
                    excluded=excluded,
                    excluded_total=len(report.excluded),
                )
            yield Opened(box, copied, _measured(box.posture))

    @asynccontextmanager
    async def again(self, spec: SandboxSpec, ref: str | None) -> AsyncIterator[Opened]:
        async with AsyncExitStack() as stack:
            found = await self.engine.containers({SESSION: spec.session or ""})
            for container in found:
                if container["Id"] != ref:
                    await self.engine.remove(container["Id"])
            if ref is not None and any(container["Id"] == ref for container in found):
                try:
                    attached = attach_sandbox(ref, engine=self.engine, gate=spec.gate)
                    box = await stack.enter_async_context(attached)
                except SandboxGone:
                    await self.engine.remove(ref)
                else:
                    yield Opened(box, None, how="attached")
                    return
            kept = spec.reopen or ref is not None
            if not kept and spec.state is not None:
                # Whatever was copied, nobody worked on it yet.
                await asyncio.to_thread(remove, spec.state)
            opened = await stack.enter_async_context(self.open(replace(spec, reopen=kept)))
            hurt = kept and spec.state is not None and await asyncio.to_thread(damaged, spec.state)
            yield replace(opened, how="reopened", damaged=hurt) if kept else opened

    async def abandon(self, state: Path) -> None:
        for container in await self.engine.containers({SESSION: state.name}):
            await self.engine.remove(container["Id"])
        with suppress(FileNotFoundError):
            await asyncio.to_thread(remove, state)

    async def changes(self, state: Path) -> int:
        if bound_to(state) is not None or not manifest.exists(state) or promised(state):
            return 0  # none to be reviewed: made directly, or nothing went in, or not yet
        return len((await asyncio.to_thread(changes, state)).changes)


def _measured(posture: Posture | None) -> PostureMeasured | None:
    if posture is None:
        return None
    return PostureMeasured(
        probes=posture.probes, cached=posture.cached, duration_s=round(posture.duration_s, 6)
    )


@asynccontextmanager
async def docker_machine() -> AsyncIterator[Machine]:
    """The engine this machine has; EngineMissing says what to do where there is none."""
    engine = await Engine.connect()
    try:
        yield DockerMachine(engine)
    finally:
        await engine.close()
