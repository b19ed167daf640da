"""The double's terminal, between a person at the keyboard and the programs that hold it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from sandbox.memory.streams import Stream


class Terminal(Stream):
    """A terminal in its usual (cooked) mode: echo, line editing by ^C and ^D only, newlines as CR LF."""

    def __init__(self, rows: int, columns: int, output: Stream, interrupt: Callable[[], None]) -> None:
        super().__init__()
        self.rows, self.columns = rows, columns
        self.output, self.interrupt = output, interrupt
        self.line = bytearray()
        self.lines: deque[bytes] = deque()
        self.arrived = asyncio.Event()

    async def type(self, data: bytes) -> None:
        """What a person at the keyboard sends."""
        for byte in data.replace(b"\r", b"\n"):
            if byte == 3:
                self.line.clear()
                await self.output.write(b"^C")
                self.interrupt()
                continue
            if byte != 4:
                self.line.append(byte)
                await self.output.write(b"\r\n" if byte == 10 else bytes([byte]))
            if byte in (4, 10):
                self.lines.append(bytes(self.line))
                self.line.clear()
                self.arrived.set()

    async def read(self, size: int) -> bytes:
        while not self.lines:
            self.arrived.clear()
            await self.arrived.wait()
        line = self.lines.popleft()
        if len(line) > size:
            self.lines.appendleft(line[size:])
        return line[:size]

    async def write(self, data: bytes) -> None:
        await self.output.write(data.replace(b"\n", b"\r\n"))

    def closed(self) -> None:
        self.output.close()
