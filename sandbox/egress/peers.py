"""The two ends of a carried connection: the program inside, read ahead where need be, and the other side."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Sequence
from typing import Protocol

from sandbox.egress.errors import Unreached
from sandbox.protocol import Connection, Origin

RECEIVE_BYTES = 256 << 10
CANDIDATES = 4
"""Addresses of one name that are tried."""


class Peer(Protocol):
    """A byte stream, as `protocol.Connection` describes it."""

    async def receive(self) -> bytes: ...

    async def send(self, data: bytes) -> None: ...

    async def end(self) -> None: ...

    def abort(self) -> None: ...


class Outside(Peer, Protocol):
    """The other side, in the clear or by TLS."""

    host: str
    port: int
    address: str

    def is_quiet(self) -> bool:
        """Whether it is open and says nothing, so that another request may be sent on it."""


class Guest:
    """The program inside, with what was read of it but not yet used."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.unused = bytearray()
        self.ended = False
        """It said all it will say."""
        self._reading: asyncio.Task[bytes] | None = None

    @property
    def origin(self) -> Origin:
        return self._connection.origin

    async def receive(self) -> bytes:
        if self.unused:
            data = bytes(self.unused)
            self.unused.clear()
            return data
        return await self._read()

    async def more(self) -> bool:
        """Read on behind what is unused; False at the end."""
        data = await self._read()
        self.unused += data
        return bool(data)

    async def gone(self) -> None:
        """Return once the program has hung up. Of what it says meanwhile little is read ahead."""
        with contextlib.suppress(ConnectionError):
            while len(self.unused) < RECEIVE_BYTES and not self.ended:
                # This wait is given up when a question is answered; the read must not be lost with it.
                if self._reading is None:
                    self._reading = asyncio.ensure_future(self._connection.receive())
                await asyncio.wait([self._reading])
                await self.more()
            if not self.ended:
                await asyncio.get_running_loop().create_future()

    async def _read(self) -> bytes:
        if self.ended:
            return b""
        if self._reading is None:
            data = await self._connection.receive()
        else:
            reading, self._reading = self._reading, None
            data = await reading
        self.ended = not data
        return data

    async def send(self, data: bytes) -> None:
        await self._connection.send(data)

    async def end(self) -> None:
        await self._connection.end()

    def abort(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
        self._connection.abort()


class Upstream:
    """A TCP connection to a checked address."""

    def __init__(self, sock: socket.socket, host: str, port: int, address: str) -> None:
        self._socket, self._loop = sock, asyncio.get_running_loop()
        self.host, self.port, self.address = host, port, address

    async def receive(self) -> bytes:
        try:
            return await self._loop.sock_recv(self._socket, RECEIVE_BYTES)
        except OSError as error:
            raise ConnectionError("the other side broke off") from error

    async def send(self, data: bytes) -> None:
        try:
            await self._loop.sock_sendall(self._socket, data)
        except OSError as error:
            raise ConnectionError("the other side broke off") from error

    async def end(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def receive_now(self) -> bytes:
        """What is there already, b"" for nothing; ConnectionError once the other side has ended."""
        try:
            data = self._socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise ConnectionError("the other side broke off") from error
        if not data:
            raise ConnectionError("the other side has ended")
        return data

    def is_quiet(self) -> bool:
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def abort(self) -> None:
        self._socket.close()


async def connect(host: str, port: int, addresses: Sequence[str], timeout_s: float) -> Upstream:
    """To the first of these addresses that answers. Unreached when none does in time."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    tried = addresses[:CANDIDATES]
    late = False
    for left, address in zip(range(len(tried), 0, -1), tried, strict=True):
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # One address that swallows packets leaves time for the others.
            async with asyncio.timeout((deadline - loop.time()) / left):
                await loop.sock_connect(sock, (address, port))
            return Upstream(sock, host, port, address)
        except OSError as error:  # TimeoutError is one.
            late = isinstance(error, TimeoutError)
            sock.close()
        except BaseException:
            sock.close()
            raise
    raise Unreached("No address of the host answers in time." if late else "The host refuses.", late=late)
