"""The double's processes: asyncio tasks that have a pid, descriptors and a call, and take signals."""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

from sandbox.memory.files import FileTree, Node, failure
from sandbox.memory.streams import PIPE_BYTES, Device, OpenFile, Stream

HARMLESS = frozenset({signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH})
"""Signals whose default is to do nothing."""


class Killed(Exception):
    """A process ends itself by a signal (SIGPIPE)."""

    def __init__(self, number: int) -> None:
        self.number = number


@dataclass(eq=False)
class GuestProcess:
    """A process of the double. Commands written in Python get one and work through it."""

    system: System
    pid: int
    call: str
    argv: list[str]
    env: dict[str, str]
    cwd: str
    streams: dict[int, Stream]
    group: int = 0
    session: int = 0
    ignored: set[int] = field(default_factory=set)
    caught: Callable[[int], bool] | None = None
    """Asked first for every signal but KILL; True means it was taken care of."""
    umask: int = 0o022
    killed_by: int | None = None
    status: asyncio.Future[int] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    """The exit code, or minus the signal's number."""
    task: asyncio.Task[int] | None = None

    @property
    def files(self) -> FileTree:
        return self.system.files

    @property
    def alive(self) -> bool:
        return not self.status.done()

    async def ended(self) -> int:
        """Its status; a waiter that is cancelled leaves it as it is."""
        return await asyncio.shield(self.status)

    async def read(self, size: int = PIPE_BYTES, fd: int = 0) -> bytes:
        await asyncio.sleep(0)
        return await self.stream(fd).read(size)

    async def read_all(self) -> bytes:
        parts = []
        while data := await self.read():
            parts.append(data)
        return b"".join(parts)

    async def out(self, data: bytes | str, fd: int = 1) -> None:
        """Write to standard output. A reader that went away ends the process, as SIGPIPE does."""
        await asyncio.sleep(0)
        try:
            await self.stream(fd).write(os.fsencode(data))
        except BrokenPipeError:
            if signal.SIGPIPE in self.ignored:
                raise
            raise Killed(signal.SIGPIPE) from None

    async def err(self, data: bytes | str) -> None:
        await self.out(data, 2)

    def stream(self, fd: int) -> Stream:
        if fd not in self.streams:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return self.streams[fd]

    def open(self, path: str, mode: str) -> Stream:
        """`r`, `w` (truncate), `a` (append) or `+` (write, keep what is there)."""
        parent, name, node = self.files.locate(path, self.cwd)
        if node is None:
            if mode == "r":
                raise failure(errno.ENOENT, path)
            node = Node("file", 0o666 & ~self.umask)
            self.files.attach(parent, name, node, path)
        elif not node.may(4 if mode == "r" else 2):
            raise failure(errno.EACCES, path)
        if node.kind == "directory" and mode != "r":
            raise failure(errno.EISDIR, path)
        if node.kind == "device":
            return Device(name)
        if node.kind != "file" and node.kind != "directory":
            raise failure(errno.EOPNOTSUPP, path)
        if mode == "w":
            node.truncate(0)
        return OpenFile(node, append=mode == "a")

    def take_input(self, path: str) -> None:
        """Read a file where standard input was read before."""
        self.streams[0].close()
        self.streams[0] = self.open(path, "r")

    def deliver(self, number: int) -> None:
        """Take a signal: ignored, handled by the shell's trap, or deadly."""
        if not self.alive or number == 0:
            return
        if number != signal.SIGKILL:
            if number in self.ignored or (self.caught is not None and self.caught(number)):
                return
            if number in HARMLESS:
                return
        self.killed_by = number
        assert self.task is not None
        self.task.cancel()


Program = Callable[[GuestProcess], Awaitable[int]]
"""A command written in Python: reads and writes through the process it is given, returns the exit code."""


class System:
    """All processes of one box."""

    def __init__(self, files: FileTree) -> None:
        self.files = files
        self.processes: dict[int, GuestProcess] = {}
        self._pids = itertools.count(2)

    def of_call(self, call: str) -> Iterator[GuestProcess]:
        return (process for process in tuple(self.processes.values()) if process.call == call)

    def of_group(self, group: int) -> Iterator[GuestProcess]:
        return (process for process in tuple(self.processes.values()) if process.group == group)

    def signal_group(self, group: int, number: int) -> None:
        for process in self.of_group(group):
            process.deliver(number)

    def start(
        self,
        body: Callable[[GuestProcess], Awaitable[int]],
        *,
        call: str,
        argv: list[str],
        env: dict[str, str],
        cwd: str,
        streams: dict[int, Stream],
    ) -> GuestProcess:
        """A first process: leader of its own session and group. It owns the streams from now on."""
        process = GuestProcess(self, next(self._pids), call, argv, env, cwd, streams)
        process.group = process.session = process.pid
        return self._live(process, body)

    def fork(self, parent: GuestProcess, body: Callable[[GuestProcess], Awaitable[int]]) -> GuestProcess:
        child = GuestProcess(
            self,
            next(self._pids),
            parent.call,
            list(parent.argv),
            dict(parent.env),
            parent.cwd,
            {fd: stream.dup() for fd, stream in parent.streams.items()},
            group=parent.group,
            session=parent.session,
            ignored=set(parent.ignored),
            umask=parent.umask,
        )
        return self._live(child, body)

    def _live(self, process: GuestProcess, body: Callable[[GuestProcess], Awaitable[int]]) -> GuestProcess:
        self.processes[process.pid] = process

        async def life() -> int:
            try:
                return await body(process) & 0xFF
            except Killed as end:
                process.killed_by = end.number
                return -end.number
            except OSError as exc:
                # A program's own mistake: what a C program would print before it exits.
                try:
                    await process.err(f"{process.argv[0]}: {exc.filename or ''}: {exc.strerror}\n")
                except (OSError, Killed):
                    return 1
                return 1

        process.task = asyncio.create_task(life(), name=f"guest {process.pid} {process.argv[:1]}")
        # Not in a `finally`: a task cancelled before its first step never enters its body.
        process.task.add_done_callback(lambda task: self._died(process, task))
        return process

    def _died(self, process: GuestProcess, task: asyncio.Task[int]) -> None:
        del self.processes[process.pid]
        for stream in process.streams.values():
            stream.close()
        process.streams.clear()
        if task.cancelled():
            process.status.set_result(-(process.killed_by or signal.SIGKILL))
        elif (error := task.exception()) is not None:
            process.status.set_exception(error)
        else:
            process.status.set_result(task.result())
