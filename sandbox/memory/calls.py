"""The double's calls: each a command that was begun, what it is fed, and how it ended."""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from policies.schema import Policy
from sandbox.errors import SandboxError, SandboxGone, SandboxRefused
from sandbox.hardening import ENVIRONMENT
from sandbox.memory.checks import check_command
from sandbox.memory.files import FileTree, Node, failure
from sandbox.memory.launch import execute
from sandbox.memory.output import Capture, Carried, CarriedStream
from sandbox.memory.processes import GuestProcess, System
from sandbox.memory.streams import Device, Pipe, Stream
from sandbox.memory.terminal import Terminal
from sandbox.protocol import Command, Completed, Rusage
from sandbox.protocol import Stream as StreamName


@dataclass(eq=False)
class Call:
    id: str
    command: Command
    main: GuestProcess
    outputs: dict[StreamName, Capture | CarriedStream]
    stdin: Pipe | None
    terminal: Terminal | None
    carried: Carried | None
    outcome: asyncio.Future[Completed]
    conductor: asyncio.Task[None] | None = None
    feeder: asyncio.Task[None] | None = None
    cancelled: bool = False
    returned: bool = False

    async def send(self, data: bytes) -> None:
        """To its standard input; BrokenPipeError where nobody reads it."""
        if self.terminal is not None:
            await self.terminal.type(data)
        elif self.stdin is None or not self.stdin.writer.holders:
            raise BrokenPipeError(errno.EPIPE, "standard input is closed")
        else:
            await self.stdin.writer.write(data)

    async def close_stdin(self) -> None:
        if self.terminal is not None:
            await self.terminal.type(b"\x04")
        elif self.stdin is not None and self.stdin.writer.holders:
            self.stdin.writer.close()

    async def feed(self, data: bytes) -> None:
        """All that it will ever be sent."""
        try:
            await self.send(data)
        except BrokenPipeError:
            return  # A command need not read its input.
        await self.close_stdin()


@dataclass(eq=False)
class Calls:
    policy: Policy
    tree: FileTree
    system: System
    check: Callable[[], None]
    """SandboxGone when nothing can be asked of the box any more."""
    by_id: dict[str, Call] = field(default_factory=dict)

    def known(self, call_id: str) -> Call:
        """KeyError for one that was never begun, or whose result was given away."""
        self.check()
        call = self.by_id[call_id]
        if call.returned:
            raise KeyError(call_id)
        return call

    def begin(self, command: Command, carried: Carried | None = None) -> Call:
        """Start the command's first process. A call id that was seen before is joined, never run again."""
        self.check()
        own = "root" if self.policy.container.user == "root" else "sandbox"
        if command.user not in (None, own):
            raise SandboxRefused(f"commands of this sandbox run as {own!r}, not as {command.user!r}")
        check_command(command)
        call_id = command.call_id or secrets.token_hex(8)
        if call_id in self.by_id:
            if self.by_id[call_id].returned:
                raise SandboxError(f"call {call_id} was already executed and its result released")
            return self.by_id[call_id]
        cwd = command.cwd or "/workspace"
        directory = self.tree.get(cwd)
        if directory.kind != "directory":
            raise failure(errno.ENOTDIR, cwd)
        if not directory.may(1):
            raise failure(errno.EACCES, cwd)
        outputs: dict[StreamName, Capture | CarriedStream] = {
            "stdout": self._output(command, carried, "stdout"),
            "stderr": self._output(command, carried, "stderr"),
        }
        stdin = Pipe() if command.tty is None and command.stdin != b"" else None
        terminal = None
        streams: dict[int, Stream] = {1: outputs["stdout"], 2: outputs["stderr"]}
        if command.tty is not None:
            rows, columns = command.tty
            terminal = Terminal(
                rows,
                columns,
                outputs["stdout"],
                lambda: self.system.signal_group(call.main.group, signal.SIGINT),
            )
            streams = {0: terminal, 1: terminal.dup(), 2: terminal.dup()}
        else:
            streams[0] = Device("null") if stdin is None else stdin.reader
        main = self.system.start(
            execute,
            call=call_id,
            argv=list(command.argv),
            env={**ENVIRONMENT, **command.env},
            cwd=os.path.normpath(cwd),
            streams=streams,
        )
        outcome: asyncio.Future[Completed] = asyncio.get_running_loop().create_future()
        call = Call(call_id, command, main, outputs, stdin, terminal, carried, outcome)
        self.by_id[call_id] = call
        call.conductor = asyncio.create_task(self._conduct(call), name=f"call {call_id}")
        if command.stdin:
            call.feeder = asyncio.create_task(call.feed(command.stdin), name=f"stdin {call_id}")
        return call

    def _output(self, command: Command, carried: Carried | None, name: StreamName) -> Capture | CarriedStream:
        if carried is not None:
            return carried.stream(name)
        return Capture(command.output_bytes, self.policy.limits.spill_bytes)

    async def outcome(self, call: Call) -> Completed:
        done = await asyncio.shield(call.outcome)
        call.returned = True
        return done

    async def _conduct(self, call: Call) -> None:
        began, cpu = time.monotonic(), time.process_time()
        limit = call.command.timeout_s or self.policy.limits.command_s
        _, late = await asyncio.wait({call.main.status}, timeout=limit)
        if late:
            await self.end(call, cancelled=False)
        try:
            status = await call.main.ended()
        except Exception as exc:  # noqa: BLE001 - a bug in a test's own command belongs to whoever waits for it
            if not call.outcome.done():
                call.outcome.set_exception(exc)
            return
        finally:
            if call.carried is not None:
                call.carried.end()
            for output in call.outputs.values():
                if isinstance(output, Capture):
                    output.ended = True
        used = Rusage(time.process_time() - cpu, 0.0, 1 << 20)
        if not call.outcome.done():
            call.outcome.set_result(self._completed(call, status, bool(late), time.monotonic() - began, used))

    def _completed(
        self, call: Call, status: int, timed_out: bool, duration_s: float, used: Rusage
    ) -> Completed:
        out, err = call.outputs["stdout"], call.outputs["stderr"]
        return Completed(
            exit_code=status if status >= 0 else 128 - status,
            signal=-status if status < 0 else None,
            stdout=out.kept() if isinstance(out, Capture) else b"",
            stderr=err.kept() if isinstance(err, Capture) else b"",
            stdout_total=out.total,
            stderr_total=err.total,
            timed_out=timed_out,
            cancelled=call.cancelled,
            oom_killed=False,
            disk_exceeded=False,
            spill=self._spill(call),
            duration_s=duration_s,
            rusage=used,
            jobs=sum(1 for _ in self.system.of_call(call.id)),
        )

    def _spill(self, call: Call) -> dict[StreamName, str]:
        paths: dict[StreamName, str] = {}
        for name, output in call.outputs.items():
            if isinstance(output, Capture) and output.total > output.output_bytes:
                paths[name] = f"/tmp/.usermode-{call.id}.{name}"
                data = output.head[: self.policy.limits.spill_bytes]
                self.tree.put(paths[name], Node("file", 0o600, data=data))
        return paths

    async def end(self, call: Call, cancelled: bool = True) -> None:
        """TERM, grace, KILL, until nothing of the call lives."""
        call.cancelled = call.cancelled or (cancelled and call.main.alive)
        for process in self.system.of_call(call.id):
            process.deliver(signal.SIGTERM)
        deadline = time.monotonic() + self.policy.limits.grace_s
        while (
            living := {one.status for one in self.system.of_call(call.id)}
        ) and time.monotonic() < deadline:
            await asyncio.wait(
                living, timeout=deadline - time.monotonic(), return_when=asyncio.FIRST_COMPLETED
            )
        while living := {one.status for one in self.system.of_call(call.id)}:
            for process in self.system.of_call(call.id):
                process.deliver(signal.SIGKILL)
            await asyncio.wait(living)

    async def abandon(self) -> None:
        """The box is closed: whoever waits for a call hears so, and no process outlives it."""
        for call in self.by_id.values():
            if not call.outcome.done():
                call.outcome.set_exception(SandboxGone("the sandbox was closed"))
                call.outcome.exception()  # Nobody may be waiting for it; that is no mistake.
        while processes := tuple(self.system.processes.values()):
            for process in processes:
                process.deliver(signal.SIGKILL)
            await asyncio.wait({process.status for process in processes})
        workers = [task for call in self.by_id.values() for task in (call.conductor, call.feeder) if task]
        await asyncio.gather(*workers, return_exceptions=True)
