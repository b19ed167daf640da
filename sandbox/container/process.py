"""A running command whose streams are carried as they come."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace

from sandbox.container.calls import Call
from sandbox.protocol import Chunk, Completed
from sandbox.wire.frames import Request


@dataclass(eq=False)
class DockerProcess:
    """A carried call; see `protocol.Process`."""

    call: Call
    finish: Callable[[Call], Awaitable[Completed]]
    """Takes the result, and lets go of the call."""

    @property
    def call_id(self) -> str:
        return self.call.call_id

    async def send(self, data: bytes) -> None:
        await self.call.send(data)

    async def close_stdin(self) -> None:
        await self.call.send(b"", close=True)

    def __aiter__(self) -> AsyncIterator[Chunk]:
        return self.call.chunks()

    async def wait(self) -> Completed:
        await self.call.wait_discarding()
        completed = await self.finish(self.call)
        return replace(completed, stdout=b"", stderr=b"")

    async def signal(self, number: int) -> None:
        if not 1 <= number <= 64:
            raise ValueError("a signal is a number from 1 to 64")
        self.call.channel.send(Request.SIGNAL, self.call.number, aux=number)

    async def kill(self) -> None:
        self.call.kill(cancel=True)

    async def resize(self, rows: int, columns: int) -> None:
        payload = rows.to_bytes(2, "little") + columns.to_bytes(2, "little")
        self.call.channel.send(Request.RESIZE, self.call.number, payload)
