"""Commands of the double whose output is carried while they run, and whose input is sent by hand."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator

from sandbox.memory.calls import Call, Calls
from sandbox.memory.output import Carried
from sandbox.protocol import Chunk, Command, Completed


class MemorySpawn:
    """`async with box.spawn(command) as process:`."""

    def __init__(self, calls: Calls, command: Command) -> None:
        self.calls, self.command = calls, command
        self.process: MemoryProcess | None = None

    async def __aenter__(self) -> MemoryProcess:
        call = self.calls.begin(self.command, Carried())
        if call.carried is None:
            raise ValueError(f"call {call.id} was executed before")
        self.process = MemoryProcess(self.calls, call, call.carried)
        return self.process

    async def __aexit__(self, *exc_info: object) -> None:
        assert self.process is not None
        call = self.process.call
        self.process.carried.end()
        await asyncio.shield(self.calls.end(call))
        call.returned = True


class MemoryProcess:
    def __init__(self, calls: Calls, call: Call, carried: Carried) -> None:
        self.calls, self.call, self.carried = calls, call, carried
        self.call_id = call.id

    async def send(self, data: bytes) -> None:
        self.calls.check()
        await self.call.send(data)

    async def close_stdin(self) -> None:
        await self.call.close_stdin()

    def __aiter__(self) -> AsyncIterator[Chunk]:
        return self.carried.__aiter__()

    async def wait(self) -> Completed:
        return await asyncio.shield(self.call.outcome)

    async def signal(self, number: int) -> None:
        self.calls.check()
        self.calls.system.signal_group(self.call.main.group, number)

    async def kill(self) -> None:
        self.calls.check()
        await self.calls.end(self.call)

    async def resize(self, rows: int, columns: int) -> None:
        if self.call.terminal is not None:
            self.call.terminal.rows, self.call.terminal.columns = rows, columns
            self.calls.system.signal_group(self.call.main.group, signal.SIGWINCH)
