"""The double's surface: what `sandbox.protocol.Sandbox` promises, over the in-memory tree and processes."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from types import TracebackType

from policies.schema import Limits, Policy
from sandbox.errors import SandboxGone
from sandbox.memory.calls import Calls
from sandbox.memory.checks import checked_path, checked_port
from sandbox.memory.files import FileTree, Node
from sandbox.memory.network import MemoryConnection, Network
from sandbox.memory.output import Capture
from sandbox.memory.processes import Program, System
from sandbox.memory.programs import PROGRAMS
from sandbox.memory.spawn import MemorySpawn
from sandbox.memory.transfer import Transfer
from sandbox.protocol import Command, Completed, Connection, FileStat, Progress


@dataclass(eq=False)
class MemorySandbox:
    """A sandbox without a container. Usable as it is or with `async with`, which closes it."""

    policy: Policy = field(default_factory=lambda: Policy(name="memory"))
    files: Mapping[str, bytes | str] = field(default_factory=dict)
    """What stands in the tree at the start, by absolute path."""
    commands: Mapping[str, Program] = field(default_factory=dict)
    """Programs written in Python, by name; one may replace a command the double has."""

    def __post_init__(self) -> None:
        self.ref = f"memory:{secrets.token_hex(8)}"
        self.limits = self.policy.limits
        """What it would hold its commands to, had it anything to hold them with."""
        self.tree = FileTree()
        self.network = Network()
        self.system = System(self.tree)
        self._transfer = Transfer(self.tree, self.policy.limits.file_bytes)
        self._calls = Calls(self.policy, self.tree, self.system, self._check)
        self._closed = self._detached = False
        for name, program in {**PROGRAMS, "nc": self.network.nc, **self.commands}.items():
            self.tree.put(f"/bin/{name}", Node("file", 0o755, owned=False, program=program))
        for path, content in self.files.items():
            data = content.encode() if isinstance(content, str) else content
            self.tree.put(path, Node("file", 0o644, data=bytearray(data)))

    async def __aenter__(self) -> MemorySandbox:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # ---- commands ----

    async def run(self, command: Command) -> Completed:
        # As a container with root commands, except that there is nothing here that only root may do.
        allowed = command.user == "root" and "root" in self.policy.sudo.may_ask
        call = self._calls.begin(replace(command, user=None) if allowed else command)
        try:
            return await self._calls.outcome(call)
        except asyncio.CancelledError:
            await asyncio.shield(self._calls.end(call))
            raise

    async def start(self, command: Command) -> str:
        return self._calls.begin(command).id

    def spawn(self, command: Command) -> MemorySpawn:
        return MemorySpawn(self._calls, command)

    async def result(self, call_id: str, *, keep: bool = False) -> Completed:
        call = self._calls.known(call_id)
        return await (asyncio.shield(call.outcome) if keep else self._calls.outcome(call))

    async def release(self, call_id: str) -> None:
        call = self._calls.by_id.get(call_id)
        if call is not None and call.outcome.done():
            call.returned = True

    async def progress(self, call_id: str, tail_bytes: int = 4096) -> Progress:
        call = self._calls.known(call_id)
        out, err = call.outputs["stdout"], call.outputs["stderr"]
        last = {name: one.last(tail_bytes) for name, one in call.outputs.items() if isinstance(one, Capture)}
        return Progress(
            last.get("stdout", b""), last.get("stderr", b""), out.total, err.total, not call.outcome.done()
        )

    async def send_stdin(self, call_id: str, data: bytes, *, close: bool = False) -> None:
        call = self._calls.known(call_id)
        await call.send(data)
        if close:
            await call.close_stdin()

    async def kill(self, call_id: str) -> None:
        self._check()
        if call_id in self._calls.by_id:
            await self._calls.end(self._calls.by_id[call_id])

    async def jobs(self) -> Mapping[str, int]:
        self._check()
        counted: dict[str, int] = {}
        for process in self.system.processes.values():
            counted[process.call] = counted.get(process.call, 0) + 1
        return counted

    # ---- connections ----

    async def listen(self, port: int, serve: Callable[[Connection], Awaitable[None]]) -> None:
        self._check()
        checked_port(port)
        self.network.take(port)
        self.network.served[port] = serve

    async def connect(self, port: int) -> MemoryConnection:
        self._check()
        checked_port(port)
        return self.network.connect(port)

    # ---- files ----

    async def read_file(self, path: str, offset: int = 0, limit: int | None = None) -> bytes:
        self._check()
        return self._transfer.read(path, offset, limit)

    async def write_file(
        self,
        path: str,
        data: bytes,
        mode: int | None = None,
        expect: str | None = None,
        parents: bool = False,
    ) -> None:
        self._check()
        self._transfer.write(path, data, mode, expect, parents)

    async def stat(self, path: str) -> FileStat:
        self._check()
        return self.tree.stat(checked_path(path))

    async def list_dir(self, path: str) -> list[FileStat]:
        self._check()
        return self.tree.list(checked_path(path))

    # ---- life ----

    @property
    def adjustable(self) -> frozenset[str]:
        return frozenset({"memory_mb", "pids", "cpus"})

    async def adjust(self, limits: Limits) -> None:
        self._check()
        self.limits = limits

    async def detach(self) -> str:
        """The commands go on; until `attach` nothing can be asked of the box."""
        self._check()
        self._detached = True
        await self.network.close()
        return self.ref

    def attach(self) -> MemorySandbox:
        self._detached = False
        return self

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        await self.network.close()
        await self._calls.abandon()

    def _check(self) -> None:
        if self._closed or self._detached:
            raise SandboxGone("the sandbox was closed")
