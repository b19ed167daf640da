"""The double's surface: what `sandbox.protocol.Sandbox` promises, over the in-memory tree and processes."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import re
import secrets
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from types import TracebackType

from policies.schema import Limits, Policy
from sandbox.errors import SandboxError, SandboxGone, SandboxRefused
from sandbox.hardening import ENVIRONMENT
from sandbox.memory.files import FileTree, Node, failure
from sandbox.memory.launch import execute
from sandbox.memory.network import MemoryConnection, Network
from sandbox.memory.output import Capture, Carried, CarriedStream
from sandbox.memory.processes import GuestProcess, Program, System
from sandbox.memory.programs import PROGRAMS
from sandbox.memory.streams import Device, Pipe, Stream
from sandbox.memory.terminal import Terminal
from sandbox.protocol import Chunk, Command, Completed, Connection, FileStat, Progress, Rusage
from sandbox.protocol import Stream as StreamName

ARGUMENT_BYTES = 128 << 10
ENVIRONMENT_BYTES = 128 << 10


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
        self._calls: dict[str, Call] = {}
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
        call = self._begin(replace(command, user=None) if allowed else command)
        try:
            return await self._outcome(call)
        except asyncio.CancelledError:
            await asyncio.shield(self._end(call))
            raise

    async def start(self, command: Command) -> str:
        return self._begin(command).id

    def spawn(self, command: Command) -> MemorySpawn:
        return MemorySpawn(self, command)

    async def result(self, call_id: str, *, keep: bool = False) -> Completed:
        call = self._known(call_id)
        return await (asyncio.shield(call.outcome) if keep else self._outcome(call))

    async def release(self, call_id: str) -> None:
        call = self._calls.get(call_id)
        if call is not None and call.outcome.done():
            call.returned = True

    async def progress(self, call_id: str, tail_bytes: int = 4096) -> Progress:
        call = self._known(call_id)
        out, err = call.outputs["stdout"], call.outputs["stderr"]
        last = {name: one.last(tail_bytes) for name, one in call.outputs.items() if isinstance(one, Capture)}
        return Progress(
            last.get("stdout", b""), last.get("stderr", b""), out.total, err.total, not call.outcome.done()
        )

    async def send_stdin(self, call_id: str, data: bytes, *, close: bool = False) -> None:
        call = self._known(call_id)
        await self._send(call, data)
        if close:
            await self._close_stdin(call)

    async def kill(self, call_id: str) -> None:
        self._check()
        if call_id in self._calls:
            await self._end(self._calls[call_id])

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
        if offset < 0 or (limit is not None and limit < 0):
            raise ValueError("offset and limit are not negative")
        node = self.tree.get(checked_path(path))
        if node.kind == "directory":
            raise failure(errno.EISDIR, path)
        if node.kind != "file":
            raise ValueError(f"{path} is a {node.kind}, not a regular file")
        if not node.may(4):
            raise failure(errno.EACCES, path)
        wanted = max(0, node.size - offset)
        wanted = wanted if limit is None else min(wanted, limit)
        if wanted > self.policy.limits.file_bytes:
            raise failure(errno.EFBIG, path)
        return node.read(offset, wanted)

    async def write_file(
        self,
        path: str,
        data: bytes,
        mode: int | None = None,
        expect: str | None = None,
        parents: bool = False,
    ) -> None:
        self._check()
        checked_path(path)
        if mode is not None and not 0 <= mode <= 0o777:
            raise ValueError("a mode is permission bits, 0o777 at most")
        if len(data) > self.policy.limits.file_bytes:
            raise failure(errno.EFBIG, path)
        if parents:
            self._make_parents(path)
        parent, name, found = self.tree.locate(path, follow=False)
        if found is not None and found.kind == "symlink":
            raise failure(errno.ELOOP, path)
        if found is not None and found.kind == "directory":
            raise failure(errno.EISDIR, path)
        if found is not None and found.kind != "file":
            raise ValueError(f"{path} is a {found.kind}, not a regular file")
        if found is not None and not found.may(2):
            raise failure(errno.EACCES, path)  # A rename would not ask.
        if expect is not None:
            present = "" if found is None else hashlib.sha256(found.data).hexdigest()
            if present != expect:
                raise failure(errno.EEXIST, path)
        kept = 0o644 if found is None else found.mode
        node = Node("file", kept if mode is None else mode, data=bytearray(data))
        self.tree.attach(parent, name, node, path)

    async def stat(self, path: str) -> FileStat:
        self._check()
        return self.tree.stat(checked_path(path))

    async def list_dir(self, path: str) -> list[FileStat]:
        self._check()
        return self.tree.list(checked_path(path))

    def _make_parents(self, path: str) -> None:
        parts = [part for part in path.split("/") if part][:-1]
        for count in range(1, len(parts) + 1):
            directory = "/" + "/".join(parts[:count])
            if self.tree.locate(directory)[2] is None:
                self.tree.create(directory, Node("directory", 0o755))

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
        for call in self._calls.values():
            if not call.outcome.done():
                call.outcome.set_exception(SandboxGone("the sandbox was closed"))
                call.outcome.exception()  # Nobody may be waiting for it; that is no mistake.
        while processes := tuple(self.system.processes.values()):
            for process in processes:
                process.deliver(signal.SIGKILL)
            await asyncio.wait({process.status for process in processes})
        workers = [task for call in self._calls.values() for task in (call.conductor, call.feeder) if task]
        await asyncio.gather(*workers, return_exceptions=True)

    def _check(self) -> None:
        if self._closed or self._detached:
            raise SandboxGone("the sandbox was closed")

    def _known(self, call_id: str) -> Call:
        self._check()
        call = self._calls[call_id]
        if call.returned:
            raise KeyError(call_id)
        return call

    # ---- calls ----

    def _begin(self, command: Command, carried: Carried | None = None) -> Call:
        """Start the command's first process. A call id that was seen before is joined, never run again."""
        self._check()
        own = "root" if self.policy.container.user == "root" else "sandbox"
        if command.user not in (None, own):
            raise SandboxRefused(f"commands of this sandbox run as {own!r}, not as {command.user!r}")
        check_command(command)
        call_id = command.call_id or secrets.token_hex(8)
        if call_id in self._calls:
            if self._calls[call_id].returned:
                raise SandboxError(f"call {call_id} was already executed and its result released")
            return self._calls[call_id]
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
            terminal = Terminal(rows, columns, outputs["stdout"], lambda: self._interrupt(call))
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
        self._calls[call_id] = call
        call.conductor = asyncio.create_task(self._conduct(call), name=f"call {call_id}")
        if command.stdin:
            call.feeder = asyncio.create_task(self._feed(call, command.stdin), name=f"stdin {call_id}")
        return call

    def _output(self, command: Command, carried: Carried | None, name: StreamName) -> Capture | CarriedStream:
        if carried is not None:
            return carried.stream(name)
        return Capture(command.output_bytes, self.policy.limits.spill_bytes)

    def _interrupt(self, call: Call) -> None:
        for process in self.system.of_group(call.main.group):
            process.deliver(signal.SIGINT)

    async def _feed(self, call: Call, data: bytes) -> None:
        try:
            await self._send(call, data)
        except BrokenPipeError:
            return  # A command need not read its input.
        await self._close_stdin(call)

    async def _send(self, call: Call, data: bytes) -> None:
        if call.terminal is not None:
            await call.terminal.type(data)
        elif call.stdin is None or not call.stdin.writer.holders:
            raise BrokenPipeError(errno.EPIPE, "standard input is closed")
        else:
            await call.stdin.writer.write(data)

    async def _close_stdin(self, call: Call) -> None:
        if call.terminal is not None:
            await call.terminal.type(b"\x04")
        elif call.stdin is not None and call.stdin.writer.holders:
            call.stdin.writer.close()

    async def _outcome(self, call: Call) -> Completed:
        done = await asyncio.shield(call.outcome)
        call.returned = True
        return done

    async def _conduct(self, call: Call) -> None:
        began, cpu = time.monotonic(), time.process_time()
        limit = call.command.timeout_s or self.policy.limits.command_s
        _, late = await asyncio.wait({call.main.status}, timeout=limit)
        if late:
            await self._end(call, cancelled=False)
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

    async def _end(self, call: Call, cancelled: bool = True) -> None:
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


class MemorySpawn:
    """`async with box.spawn(command) as process:`."""

    def __init__(self, box: MemorySandbox, command: Command) -> None:
        self.box, self.command = box, command
        self.process: MemoryProcess | None = None

    async def __aenter__(self) -> MemoryProcess:
        call = self.box._begin(self.command, Carried())
        if call.carried is None:
            raise ValueError(f"call {call.id} was executed before")
        self.process = MemoryProcess(self.box, call, call.carried)
        return self.process

    async def __aexit__(self, *exc_info: object) -> None:
        assert self.process is not None
        call = self.process.call
        self.process.carried.end()
        await asyncio.shield(self.box._end(call))
        call.returned = True


class MemoryProcess:
    def __init__(self, box: MemorySandbox, call: Call, carried: Carried) -> None:
        self.box, self.call, self.carried = box, call, carried
        self.call_id = call.id

    async def send(self, data: bytes) -> None:
        self.box._check()
        await self.box._send(self.call, data)

    async def close_stdin(self) -> None:
        await self.box._close_stdin(self.call)

    def __aiter__(self) -> AsyncIterator[Chunk]:
        return self.carried.__aiter__()

    async def wait(self) -> Completed:
        return await asyncio.shield(self.call.outcome)

    async def signal(self, number: int) -> None:
        self.box._check()
        for process in self.box.system.of_group(self.call.main.group):
            process.deliver(number)

    async def kill(self) -> None:
        await self.box.kill(self.call_id)

    async def resize(self, rows: int, columns: int) -> None:
        if self.call.terminal is not None:
            self.call.terminal.rows, self.call.terminal.columns = rows, columns
            for process in self.box.system.of_group(self.call.main.group):
                process.deliver(signal.SIGWINCH)


def check_command(command: Command) -> None:
    """ValueError for what cannot be asked for."""
    if not command.argv or not command.argv[0]:
        raise ValueError("a command needs a program")
    if sum(len(os.fsencode(word)) + 1 for word in command.argv) > ARGUMENT_BYTES:
        raise ValueError(f"over {ARGUMENT_BYTES} bytes of arguments")
    if sum(len(os.fsencode(name + value)) + 2 for name, value in command.env.items()) > ENVIRONMENT_BYTES:
        raise ValueError(f"over {ENVIRONMENT_BYTES} bytes of environment")
    if any(not name or "=" in name for name in command.env):
        raise ValueError("an environment name is empty or has '=' in it")
    if any("\0" in text for text in (*command.argv, *command.env, *command.env.values())):
        raise ValueError("a NUL byte in an argument or in the environment")
    if command.cwd is not None:
        checked_path(command.cwd)
    if command.call_id is not None and not re.fullmatch(r"[0-9a-f]{16}", command.call_id):
        raise ValueError("a call id is 16 hex digits")


def checked_port(port: int) -> None:
    if not 1 <= port <= 65_535:
        raise ValueError(f"a port is from 1 to 65535, not {port}")


def checked_path(path: str) -> str:
    if not path.startswith("/") or "\0" in path:
        raise ValueError(f"{path!r} is not an absolute path")
    os.fsencode(path)
    return path
