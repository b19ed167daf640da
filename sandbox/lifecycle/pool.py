"""A pool of warm sandboxes: containers that are started and greeted before anybody asks for one.

Each is used once. What is handed out is exactly what `open_sandbox` would have opened, workspace included:
its storage is mounted empty at the start and filled when the workspace is known.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

from sandbox.container.box import DockerSandbox
from sandbox.engine import Engine
from sandbox.errors import SandboxError, SandboxGone
from sandbox.lifecycle.launching import launch
from sandbox.lifecycle.opening import watch
from sandbox.lifecycle.prepared import Prepared, fill, prepare
from sandbox.protocol import Gatekeeper, SandboxSpec

REFILL_AFTER_S = 0.05


@dataclass(eq=False)
class _Warm:
    prepared: Prepared
    box: DockerSandbox
    stack: contextlib.AsyncExitStack


class SandboxPool:
    """`async with SandboxPool(spec, size) as pool:`, then `async with pool.open() as box:`.

    The workspace is given to `open`; whether there will be one is said at the start. Session names and state
    directories are each sandbox's own and temporary. SandboxError when the first cannot be opened.
    """

    def __init__(
        self, spec: SandboxSpec, size: int, *, engine: Engine | None = None, workspaces: bool = False
    ) -> None:
        if size < 1:
            raise ValueError("a pool holds at least one sandbox")
        self._spec = replace(spec, workspace=None, state=None, session=None, gate=None)
        self._workspaces = workspaces
        self._size = size
        self._engine = engine
        self._own_engine = engine is None
        self._warm: deque[_Warm] = deque()
        self._making: set[asyncio.Task[None]] = set()
        self._failure: SandboxError | None = None
        self._closing = False

    async def __aenter__(self) -> SandboxPool:
        self._engine = self._engine or await Engine.connect()
        self._refill()
        await asyncio.gather(*self._making)
        if self._failure is not None:
            await self.__aexit__(None, None, None)
            raise self._failure
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing = True
        for task in self._making:
            task.cancel()
        await asyncio.gather(*self._making, return_exceptions=True)
        await asyncio.gather(*(warm.stack.aclose() for warm in self._warm))
        self._warm.clear()
        if self._own_engine and self._engine is not None:
            await self._engine.close()

    @property
    def ready(self) -> int:
        """Sandboxes that can be handed out at once."""
        return len(self._warm)

    @contextlib.asynccontextmanager
    async def open(
        self, workspace: Path | None = None, *, gate: Gatekeeper | None = None
    ) -> AsyncIterator[DockerSandbox]:
        """A warm sandbox, or a cold one when none is left; another takes its place meanwhile.

        Each session brings a gate of its own, or has no way out.
        """
        if workspace is not None and not self._workspaces:
            raise ValueError("this pool's sandboxes have no workspace; make it with workspaces=True")
        warm = await self._take()
        # Not at once: making the next one would take the time of whoever was just given this one.
        asyncio.get_running_loop().call_later(REFILL_AFTER_S, self._refill)
        async with warm.stack:
            if workspace is not None:
                warm.box.copy_report = await fill(warm.prepared, workspace)
            if gate is not None:
                await warm.box.let_out(gate)
            yield warm.box

    async def _take(self) -> _Warm:
        while self._warm:
            warm = self._warm.popleft()
            if warm.box.alive:
                return warm
            await warm.stack.aclose()
        return await self._make()

    def _refill(self) -> None:
        if self._closing:
            return
        for _ in range(self._size - len(self._warm) - len(self._making)):
            task = asyncio.create_task(self._add(), name="warm sandbox")
            self._making.add(task)
            task.add_done_callback(self._making.discard)

    async def _add(self) -> None:
        try:
            self._warm.append(await self._make())
        except SandboxError as error:
            self._failure = error  # whoever asks opens a cold one and learns why from that

    async def _make(self) -> _Warm:
        assert self._engine is not None
        async with contextlib.AsyncExitStack() as stack:
            prepared = await prepare(stack, self._spec, self._engine, storage=self._workspaces)
            box = await launch(prepared, self._engine)
            stack.push_async_callback(box.close)
            await watch(stack, self._engine, box, prepared.storage)
            return _Warm(prepared, box, stack.pop_all())
        raise SandboxGone("the pool was closed")
