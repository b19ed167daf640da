"""What the double's descriptors stand for: devices, open files and both ends of a pipe."""

from __future__ import annotations

import asyncio
import errno
import os

from sandbox.memory.files import Node

PIPE_BYTES = 65_536


class Stream:
    """An open file description; descriptors that share it are counted, the last one closes it."""

    def __init__(self) -> None:
        self.holders = 1

    def dup(self) -> Stream:
        self.holders += 1
        return self

    def close(self) -> None:
        self.holders -= 1
        if self.holders == 0:
            self.closed()

    def closed(self) -> None:
        """The last holder let go."""

    async def read(self, size: int) -> bytes:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    async def write(self, data: bytes) -> None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))


class Device(Stream):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    async def read(self, size: int) -> bytes:
        return b"" if self.name == "null" else os.urandom(size) if self.name == "urandom" else bytes(size)

    async def write(self, data: bytes) -> None:
        if self.name == "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class OpenFile(Stream):
    def __init__(self, node: Node, append: bool = False) -> None:
        super().__init__()
        self.node, self.append, self.offset = node, append, 0

    async def read(self, size: int) -> bytes:
        data = self.node.read(self.offset, size)
        self.offset += len(data)
        return data

    async def write(self, data: bytes) -> None:
        self.offset = self.node.size if self.append else self.offset
        self.node.write(self.offset, data)
        self.offset += len(data)


class Pipe:
    """A bounded buffer with a reading and a writing end."""

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.changed = asyncio.Condition()
        self.reader, self.writer = ReadEnd(self), WriteEnd(self)
        self._wakers: set[asyncio.Task[None]] = set()

    def wake(self) -> None:
        """Closing is not a coroutine, yet those who wait must hear of it."""
        task = asyncio.ensure_future(self._notify())
        self._wakers.add(task)
        task.add_done_callback(self._wakers.discard)

    async def _notify(self) -> None:
        async with self.changed:
            self.changed.notify_all()


class ReadEnd(Stream):
    def __init__(self, pipe: Pipe) -> None:
        super().__init__()
        self.pipe = pipe

    async def read(self, size: int) -> bytes:
        pipe = self.pipe
        async with pipe.changed:
            while not pipe.buffer and pipe.writer.holders:
                await pipe.changed.wait()
            data = bytes(pipe.buffer[:size])
            del pipe.buffer[:size]
            pipe.changed.notify_all()
        return data

    def closed(self) -> None:
        self.pipe.wake()


class WriteEnd(Stream):
    def __init__(self, pipe: Pipe) -> None:
        super().__init__()
        self.pipe = pipe

    async def write(self, data: bytes) -> None:
        pipe = self.pipe
        view = memoryview(data)
        while view:
            async with pipe.changed:
                while len(pipe.buffer) >= PIPE_BYTES and pipe.reader.holders:
                    await pipe.changed.wait()
                if not pipe.reader.holders:
                    raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
                room = PIPE_BYTES - len(pipe.buffer)
                pipe.buffer += view[:room]
                view = view[room:]
                pipe.changed.notify_all()

    def closed(self) -> None:
        self.pipe.wake()
