"""The double's loopback: what listens inside, what the host listens for, the byte streams between them."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from sandbox.memory.processes import GuestProcess
from sandbox.memory.streams import Pipe, Stream
from sandbox.protocol import Connection, Origin
from sandbox.wire.frames import FRAME_MAX
from sandbox.wire.streams import serve_to_its_end

Serve = Callable[[Connection], Awaitable[None]]


class Line:
    """Both directions of one connection."""

    def __init__(self) -> None:
        self.up, self.down = Pipe(), Pipe()
        self.broken = False

    def reset(self) -> None:
        self.broken = True
        for pipe in (self.up, self.down):
            for end in (pipe.reader, pipe.writer):
                if end.holders:
                    end.close()

    def check(self) -> None:
        if self.broken:
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))


class Socket(Stream):
    """One end of a line, as a program holds it."""

    def __init__(self, line: Line, reads: Pipe, writes: Pipe) -> None:
        super().__init__()
        self.line, self.reads, self.writes = line, reads, writes

    async def read(self, size: int) -> bytes:
        data = await self.reads.reader.read(size)
        if not data:
            self.line.check()
        return data

    async def write(self, data: bytes) -> None:
        self.line.check()
        if not self.writes.writer.holders:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
        await self.writes.writer.write(data)

    def shutdown(self) -> None:
        """Nothing more will be written."""
        if self.writes.writer.holders:
            self.writes.writer.close()

    def closed(self) -> None:
        self.shutdown()
        if self.reads.reader.holders:
            self.reads.reader.close()


class MemoryConnection:
    """See `protocol.Connection`."""

    def __init__(self, line: Line, socket: Socket, origin: Origin) -> None:
        self.origin = origin
        self._line, self._socket = line, socket
        self._heard_all = False

    async def receive(self) -> bytes:
        data = await self._socket.read(FRAME_MAX)
        self._heard_all = not data
        return data

    async def send(self, data: bytes) -> None:
        await self._socket.write(data)

    async def end(self) -> None:
        self._socket.shutdown()

    def abort(self) -> None:
        if self._heard_all and not self._socket.writes.writer.holders:
            return  # Both sides have said all: nothing is left to cut.
        self._line.reset()


@dataclass(eq=False)
class Network:
    """Ports of one box."""

    served: dict[int, Serve] = field(default_factory=dict)
    waiting: dict[int, asyncio.Queue[Socket]] = field(default_factory=dict)
    """Programs that listen, each with the connections it has not accepted."""
    lines: list[Line] = field(default_factory=list)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def dial(self, process: GuestProcess, port: int) -> Socket:
        """From a program inside. ConnectionRefusedError when nobody listens."""
        line = self._line()
        here, there = Socket(line, line.down, line.up), Socket(line, line.up, line.down)
        if port in self.served:
            origin = Origin(process.call, process.pid, " ".join(process.argv)[:256])
            connection = MemoryConnection(line, there, origin)
            serving = serve_to_its_end(self.served[port], connection)
            task = asyncio.create_task(serving, name=f"connection to port {port}")
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        elif port in self.waiting:
            self.waiting[port].put_nowait(there)
        else:
            raise refused(port)
        return here

    def connect(self, port: int) -> MemoryConnection:
        """From the host."""
        if port not in self.waiting:
            raise refused(port)
        line = self._line()
        self.waiting[port].put_nowait(Socket(line, line.up, line.down))
        return MemoryConnection(line, Socket(line, line.down, line.up), Origin(None, None))

    def listen(self, port: int) -> asyncio.Queue[Socket]:
        """By a program inside, until it deletes itself from `waiting`."""
        self.take(port)
        return self.waiting.setdefault(port, asyncio.Queue())

    def take(self, port: int) -> None:
        """OSError(EADDRINUSE) when somebody listens there."""
        if port in self.served or port in self.waiting:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), f"port {port}")

    async def close(self) -> None:
        self.served.clear()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for line in self.lines:
            line.reset()
        self.lines.clear()

    def _line(self) -> Line:
        self.lines = [line for line in self.lines if line.up.writer.holders or line.down.writer.holders]
        self.lines.append(Line())
        return self.lines[-1]

    async def nc(self, process: GuestProcess) -> int:
        """`nc 127.0.0.1 PORT`, `nc -l -p PORT`: what is read is sent, then no more; what comes is printed."""
        words = process.argv[1:]
        if words[:2] == ["-l", "-p"] and len(words) == 3:
            port = int(words[2])
            queue = self.listen(port)
            try:
                socket = await queue.get()
            finally:
                del self.waiting[port]
        elif len(words) == 2 and words[0] in ("127.0.0.1", "localhost"):
            socket = self.dial(process, int(words[1]))
        else:
            await process.err(f"nc: the double does not know {words!r}\n")
            return 2
        process.streams[max(process.streams) + 1] = socket

        async def upward() -> None:
            try:
                while data := await process.read():
                    await socket.write(data)
                socket.shutdown()
            except ConnectionError:
                return  # What the other side says is still printed.

        sending = asyncio.create_task(upward())
        try:
            while data := await socket.read(65_536):
                await process.out(data)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        return 0


def refused(port: int) -> ConnectionRefusedError:
    return ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED), f"port {port}")
