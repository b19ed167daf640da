"""The connection under the wire: the engine's attach stream, spoken directly.

One POST, answered by an upgrade; from then on the request side is the container's stdin and the answer side
its stdout and stderr, each piece behind eight bytes that say which and how long. The SDK is not used here:
its stream reads block and can lose bytes.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable

from sandbox.address import EngineAddress
from sandbox.errors import SandboxGone, WireError

ANSWER_S = 60.0
"""The engine attaches to nothing that it is just starting: it may be the whole start that is waited for."""
HIGH_WATER = 256 << 10
_PIECE = struct.Struct(">BxxxI")


class Attachment(asyncio.Protocol):
    """Bytes to the container's stdin, and its stdout to `received`; `closed` is told once, at the end."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._head = bytearray()
        self._upgraded: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._piece = 0
        self._stream = 0
        self._rest = b""
        self._writable = asyncio.Event()
        self._writable.set()
        self._over = False
        self.received: Callable[[bytes | memoryview], None] = lambda data: None
        self.closed: Callable[[str], None] = lambda reason: None

    @classmethod
    async def open(cls, address: EngineAddress, container: str) -> Attachment:
        """Attach to a container by id, also before its start. SandboxGone when the engine does not let us."""
        self = await cls.asked(address, container)
        await self.opened()
        return self

    @classmethod
    async def asked(cls, address: EngineAddress, container: str) -> Attachment:
        """As `open`, without waiting for the engine's answer: that is what `opened` does."""
        return await cls._post(address, f"containers/{container}/attach?stream=1&stdin=1&stdout=1", b"")

    @classmethod
    async def open_exec(
        cls,
        address: EngineAddress,
        exec_id: str,
        *,
        received: Callable[[bytes | memoryview], None],
        closed: Callable[[str], None],
    ) -> Attachment:
        """Start a program that was made ready beside a container's first. It speaks at once, so those who
        listen are named before."""
        body = b'{"Detach":false,"Tty":false}'
        self = await cls._post(address, f"exec/{exec_id}/start", body, received, closed)
        await self.opened()
        return self

    @classmethod
    async def _post(
        cls,
        address: EngineAddress,
        what: str,
        body: bytes,
        received: Callable[[bytes | memoryview], None] | None = None,
        closed: Callable[[str], None] | None = None,
    ) -> Attachment:
        loop = asyncio.get_running_loop()
        try:
            if address.scheme == "unix":
                _, self = await loop.create_unix_connection(cls, address.path)
            else:
                _, self = await loop.create_connection(cls, address.host, address.port, ssl=address.tls)
        except OSError as error:
            raise SandboxGone(f"the engine cannot be reached for the wire: {error}") from error
        self.received = received or self.received
        self.closed = closed or self.closed
        self.write(
            f"POST /v1.41/{what} HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        return self

    async def opened(self) -> None:
        """Wait until bytes may be written. SandboxGone when the engine does not let us."""
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._upgraded
        except TimeoutError:
            self.close()
            raise SandboxGone("the engine did not answer the request for the wire") from None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=HIGH_WATER)

    def data_received(self, data: bytes) -> None:
        if not self._upgraded.done():
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0 and len(self._head) < 65_536:
                return
            status = bytes(self._head[:end]).split(b"\r\n", 1)[0] if end >= 0 else b""
            if not status.startswith((b"HTTP/1.1 101", b"HTTP/1.1 200")):
                shown = status.decode("ascii", "backslashreplace")[:200]
                self._upgraded.set_exception(SandboxGone(f"the engine refused the wire: {shown}"))
                self.close()
                return
            data = bytes(self._head[end + 4 :])
            self._head.clear()
            self._upgraded.set_result(None)
        if data:
            self._unwrap(data)

    def _unwrap(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
            self._rest = b""
        view = memoryview(data)
        at, end = 0, len(data)
        while at < end:
            if not self._piece:
                if end - at < _PIECE.size:
                    self._rest = data[at:]
                    return
                self._stream, self._piece = _PIECE.unpack_from(data, at)
                at += _PIECE.size
                continue
            take = min(self._piece, end - at)
            if self._stream == 1:
                try:
                    self.received(view[at : at + take])
                except WireError as error:
                    self._finish(str(error))
                    return
            self._piece -= take
            at += take

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._upgraded.done():
            self._upgraded.set_exception(SandboxGone("the engine closed the connection instead of attaching"))
        self._finish(f"the wire broke: {exc}" if exc else "the container has ended")

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def write(self, data: bytes) -> None:
        if self._transport is not None and not self._over:
            self._transport.write(data)

    async def drain(self) -> None:
        """Wait while more than HIGH_WATER bytes have not been taken."""
        while not self._writable.is_set():  # of all that were waiting, the first may have filled it again
            await self._writable.wait()

    def end(self) -> None:
        """Nothing more will be written; what comes is still received."""
        if self._transport is not None and not self._over and self._transport.can_write_eof():
            self._transport.write_eof()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _finish(self, reason: str) -> None:
        if not self._over:
            self._over = True
            self._writable.set()
            self.close()
            self.closed(reason)
