"""The sandbox: one container, its init, and the surface of `protocol.Sandbox` over the wire between them."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace

from policies import Policy
from policies.schema import Limits
from sandbox.container.adjust import ADJUSTABLE, ReadFile
from sandbox.container.calls import Call
from sandbox.container.files import Files
from sandbox.container.process import DockerProcess
from sandbox.container.rootexec import RootCommands
from sandbox.container.spawning import STDIN_INLINE, encoded, number_of, spawn_of
from sandbox.errors import SandboxError, SandboxGone, SandboxRefused
from sandbox.posture.check import Posture
from sandbox.protocol import Command, Completed, Connection, FileStat, Gatekeeper, Progress
from sandbox.wire.channel import Channel, Fault, errno_to_exception
from sandbox.wire.frames import Request
from sandbox.wire.payloads import Living, decode_calls
from sandbox.wire.streams import Streams
from sandbox.workspace.copyin import CopyReport

ROOT_ENVIRONMENT = {"HOME": "/root", "PYTHONPYCACHEPREFIX": "/root/.cache/python"}
"""Root reads nothing from where the sandbox user can write it."""
ROOT_STDIN = 65_536
"""All of a root command's standard input; it goes with the command itself."""
LEASE_DETACHED_S = 24 * 3600.0
ENDING_S = 1.0
"""For killed commands to end, before what comes after them is looked at."""


@dataclass(eq=False)
class DockerSandbox:
    """A running session container, made by `launching`; the contract is `protocol.Sandbox`."""

    ref: str
    policy: Policy
    channel: Channel
    environment: Mapping[str, str]
    ended: Callable[[], Awaitable[None]]
    """Removes the container and lets go of what belongs to it."""
    detached: Callable[[], Awaitable[None]]
    hold: Callable[[Limits, ReadFile], Awaitable[None]] | None = None
    """Changes the container's bounds; None where they are fixed."""
    root: RootCommands | None = None
    """Who runs root commands; None where nobody can."""
    copy_report: CopyReport | None = None
    """What went into the workspace."""
    posture: Posture | None = None
    """What was measured before the first use; None for a sandbox that was returned to."""
    calls: dict[str, Call] = field(default_factory=dict)
    """Begun and not yet returned."""
    limits_of: dict[str, int] = field(default_factory=dict)
    _closed: bool = False

    def __post_init__(self) -> None:
        self._files = Files(self.channel, self.policy.limits.file_bytes)
        self._streams = Streams(self.channel)
        self._environment = {name: encoded(f"{name}={value}") for name, value in self.environment.items()}

    # --- commands ---

    async def run(self, command: Command) -> Completed:
        if command.user == "root" and self.policy.container.user != "root":
            return await self._run_as_root(command)
        call = self._begin(command)
        try:
            rest = await self._feed(call, command)
            try:
                return await self._finish(call)
            finally:
                if rest is not None:
                    rest.cancel()
        except asyncio.CancelledError:
            with contextlib.suppress(SandboxError, OSError, KeyError):
                call.kill(cancel=True)
                await asyncio.shield(self._finish(call))
            raise

    async def _run_as_root(self, command: Command) -> Completed:
        """Beside init, which has no privilege to give; see `rootexec`."""
        self._standing()
        if self.root is None or "root" not in self.policy.sudo.may_ask:
            raise SandboxRefused("the policy of this sandbox gives no root commands (sudo.may_ask)")
        if command.tty is not None or command.stdin is None or len(command.stdin) > ROOT_STDIN:
            raise ValueError(f"a root command has no terminal, and at most {ROOT_STDIN} bytes of input")
        asked = replace(command, user=None, stdin=b"", env={**ROOT_ENVIRONMENT, **command.env})
        spawn = replace(spawn_of(asked, self.policy, self._environment), stdin=command.stdin)
        call_id = command.call_id or f"{secrets.randbits(64) | 1 << 63:016x}"
        number_of(call_id)
        return await self.root.run(call_id, spawn, self.policy.container)

    async def start(self, command: Command) -> str:
        if command.call_id is not None and command.call_id in self.calls:
            return command.call_id
        call = self._begin(command)
        feeding = await self._feed(call, command)
        if feeding is not None:
            call.done.add_done_callback(lambda _: feeding.cancel())
        await asyncio.sleep(0)
        return call.call_id

    async def result(self, call_id: str, *, keep: bool = False) -> Completed:
        return await self._finish(self._known(call_id), keep=keep)

    async def release(self, call_id: str) -> None:
        call = self.calls.get(call_id)
        if call is not None and call.done.done():
            self._let_go(call)

    async def progress(self, call_id: str, tail_bytes: int = 4096) -> Progress:
        self._standing()
        call = self.calls.get(call_id) or self._job(call_id)
        try:
            return await call.progress(tail_bytes)
        except Fault:
            raise KeyError(call_id) from None
        finally:
            if call_id not in self.calls:
                self.channel.forget(call.number)

    async def send_stdin(self, call_id: str, data: bytes, *, close: bool = False) -> None:
        await self._known(call_id).send(data, close=close)

    async def kill(self, call_id: str) -> None:
        if self.root is not None and self.root.end(call_id):
            return
        self.channel.send(Request.KILL, number_of(call_id), aux=1)

    async def jobs(self) -> Mapping[str, int]:
        known = decode_calls(await self.channel.ask(Request.CALLS))
        return {f"{one.id:016x}": one.processes for one in known if one.processes}

    @contextlib.asynccontextmanager
    async def spawn(self, command: Command) -> AsyncIterator[DockerProcess]:
        call = self._begin(command, carried=True)
        feeding = await self._feed(call, command)
        try:
            yield DockerProcess(call, self._finish)
        finally:
            if feeding is not None:
                feeding.cancel()
            with contextlib.suppress(SandboxGone):
                if call.call_id in self.calls:
                    call.kill(cancel=not call.done.done())
                    await asyncio.shield(self._end_of(call))

    async def _end_of(self, call: Call) -> None:
        with contextlib.suppress(SandboxError, OSError, KeyError, Fault):
            await call.wait_discarding()
            await self._finish(call)

    def _known(self, call_id: str) -> Call:
        self._standing()
        return self.calls[call_id]

    def _standing(self) -> None:
        if self._closed:
            raise SandboxGone("the sandbox is gone: it was closed")
        if self.channel.gone is not None:
            raise SandboxGone(str(self.channel.gone))

    def _job(self, call_id: str) -> Call:
        """A waiter for a call whose result was returned, or that another host began."""
        call = Call(self.channel, number_of(call_id))
        self.channel.listen(call.number, call)
        return call

    def _begin(self, command: Command, *, carried: bool = False) -> Call:
        self._standing()
        random = f"{secrets.randbits(64) | 1 << 63:016x}"
        number = number_of(random if command.call_id is None else command.call_id)
        known = self.calls.get(f"{number:016x}")
        if known is not None:
            return known
        spawn = spawn_of(command, self.policy, self._environment, carried=carried)
        frames = spawn.encode(self.channel.epoch, number)
        call = Call(self.channel, number, carried)
        call.given(len(spawn.stdin))
        self.channel.listen(number, call)
        self.channel.send_raw(frames)
        self.calls[call.call_id] = call
        self.limits_of[call.call_id] = command.output_bytes
        return call

    async def _feed(self, call: Call, command: Command) -> asyncio.Task[None] | None:
        """The part of standard input that did not fit into the request, beside whatever else goes on."""
        if command.stdin is None or len(command.stdin) <= STDIN_INLINE:
            return None
        return asyncio.create_task(_pour(call, command.stdin), name="standard input")

    async def _finish(self, call: Call, *, keep: bool = False) -> Completed:
        try:
            completed = await call.completed(self.limits_of.get(call.call_id, 16 << 20))
        except (OSError, KeyError, SandboxError):
            self._forget(call)
            raise
        if not keep:
            self._let_go(call)
        return completed

    def _let_go(self, call: Call) -> None:
        if self.calls.get(call.call_id) is call:
            with contextlib.suppress(SandboxGone):
                call.acknowledge()
        self._forget(call)

    def _forget(self, call: Call) -> None:
        if self.calls.get(call.call_id) is not call:
            return  # Somebody asked for the same id again meanwhile, and waits for its answer.
        self.calls.pop(call.call_id)
        self.limits_of.pop(call.call_id, None)
        self.channel.forget(call.number)

    def resume(self, known: list[Living]) -> None:
        """Take over the calls another host began: those that run, and those whose result it did not take."""
        for one in known:
            if one.state in (1, 2):
                call = Call(self.channel, one.id)
                self.calls[call.call_id] = call
                self.channel.listen(one.id, call)

    async def stop_for_disk(self) -> None:
        """End every command and every job, since the workspace outgrew its limit; waits a little for that."""
        ending = [call for call in self.calls.values() if not call.done.done()]
        for call in ending:
            call.disk_exceeded = True
        if self.root is not None:
            self.root.end_all(disk_exceeded=True)
        with contextlib.suppress(SandboxGone):
            for call_id in await self.jobs():
                self.channel.send(Request.KILL, number_of(call_id))
        if ending:
            await asyncio.wait([call.done for call in ending], timeout=ENDING_S)

    # --- connections ---

    async def let_out(self, gate: Gatekeeper) -> None:
        """Open the way out: from here on programs are told of the gate, and find it."""
        for path, content in gate.files.items():
            await self.write_file(path, content, parents=True)
        await self.listen(gate.port, gate.serve)
        for name, value in gate.environment.items():
            self._environment[name] = encoded(f"{name}={value}")

    async def listen(self, port: int, serve: Callable[[Connection], Awaitable[None]]) -> None:
        self._standing()
        await self._streams.listen(port, serve)

    async def connect(self, port: int) -> Connection:
        self._standing()
        return await self._streams.connect(port)

    # --- files ---

    async def read_file(self, path: str, offset: int = 0, limit: int | None = None) -> bytes:
        return await self._files.read(path, offset, limit)

    async def write_file(
        self,
        path: str,
        data: bytes,
        mode: int | None = None,
        expect: str | None = None,
        parents: bool = False,
    ) -> None:
        await self._files.write(path, data, mode, expect, parents)

    async def stat(self, path: str) -> FileStat:
        return await self._files.stat(path)

    async def list_dir(self, path: str) -> list[FileStat]:
        return await self._files.list(path)

    async def glance(self) -> bytes:
        """What PID 1 sees of itself; see `posture.check`."""
        try:
            return await self.channel.ask(Request.GLANCE)
        except Fault as fault:
            raise errno_to_exception(fault, "/proc/self") from None

    # --- bounds ---

    @property
    def adjustable(self) -> frozenset[str]:
        return frozenset() if self.hold is None else ADJUSTABLE

    async def adjust(self, limits: Limits) -> None:
        self._standing()
        if self.hold is None:
            raise SandboxRefused("the limits of a container under gVisor are fixed while it runs")
        await self.hold(limits, self.read_file)

    # --- the end ---

    @property
    def alive(self) -> bool:
        """Whether the wire to it still stands."""
        return not self._closed and self.channel.gone is None

    async def detach(self) -> str:
        await self._streams.close()
        await self.channel.ask(Request.LEASE, int(LEASE_DETACHED_S * 1000).to_bytes(8, "little"))
        self._closed = True
        await self.detached()
        self.channel.close()
        return self.ref

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            await self._streams.close()
            with contextlib.suppress(SandboxGone):
                self.channel.send(Request.SHUTDOWN, 0)
                await asyncio.sleep(0)
            self.channel.close()
            await asyncio.shield(self.ended())


async def _pour(call: Call, data: bytes) -> None:
    with contextlib.suppress(BrokenPipeError, SandboxGone):  # a command may end without reading it all
        await call.send(data, close=True)
