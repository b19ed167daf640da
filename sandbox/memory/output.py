"""Where a call's output goes: kept as head and tail with a spill, or carried in chunks as it comes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from sandbox.memory.streams import Stream
from sandbox.protocol import Chunk
from sandbox.protocol import Stream as StreamName

TAIL_BYTES = 65_536
CARRIED_BYTES = 256 << 10
"""Of a spawned command's output, held for a slow reader; then the command waits."""


class Capture(Stream):
    """One captured stream. After the call has ended its jobs write into nothing."""

    def __init__(self, output_bytes: int, spill_bytes: int) -> None:
        super().__init__()
        self.output_bytes = output_bytes
        self.head = bytearray()
        self.head_bytes = max(output_bytes, spill_bytes)
        self.tail = bytearray()
        self.tail_bytes = max(output_bytes - output_bytes // 2, TAIL_BYTES)
        self.total = 0
        self.ended = False

    async def write(self, data: bytes) -> None:
        if self.ended:
            return
        self.total += len(data)
        self.head += data[: self.head_bytes - len(self.head)]
        self.tail += data
        if len(self.tail) > 4 * self.tail_bytes:
            del self.tail[: -self.tail_bytes]

    def kept(self) -> bytes:
        if self.total <= self.output_bytes:
            return bytes(self.head[: self.total])
        front = self.output_bytes // 2
        return bytes(self.head[:front]) + bytes(self.tail[-(self.output_bytes - front) :])

    def last(self, size: int) -> bytes:
        return bytes(self.tail[-min(size, self.tail_bytes) :]) if size else b""


class Carried:
    """The chunks of a spawned command's streams, in the order they were written."""

    def __init__(self) -> None:
        self.chunks: deque[Chunk] = deque()
        self.held = 0
        self.ended = self.abandoned = False
        self.changed = asyncio.Event()

    def stream(self, name: StreamName) -> CarriedStream:
        return CarriedStream(self, name)

    def end(self, abandoned: bool = False) -> None:
        self.ended, self.abandoned = True, self.abandoned or abandoned
        self.changed.set()

    async def wait(self) -> None:
        self.changed.clear()
        await self.changed.wait()

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        while self.chunks or not self.ended:
            if not self.chunks:
                await self.wait()
                continue
            chunk = self.chunks.popleft()
            self.held -= len(chunk.data)
            self.changed.set()
            yield chunk


class CarriedStream(Stream):
    def __init__(self, carried: Carried, name: StreamName) -> None:
        super().__init__()
        self.carried, self.name, self.total = carried, name, 0

    async def write(self, data: bytes) -> None:
        carried = self.carried
        while carried.held >= CARRIED_BYTES and not carried.ended:
            await carried.wait()
        if carried.ended or not data:
            return
        self.total += len(data)
        carried.chunks.append(Chunk(self.name, data))
        carried.held += len(data)
        carried.changed.set()
