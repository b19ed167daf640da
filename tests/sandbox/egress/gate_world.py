"""A gate without a container: programs inside are socket pairs, the internet is this machine's loopback."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from policies.decide import Decision
from policies.schema import Limits, Network, Policy
from sandbox.egress import Attempt, Closed, Decided, Gate
from sandbox.protocol import Origin
from sandbox.wire.streams import serve_to_its_end

LOOPBACK = ("127.0.0.0/8",)
Respond = Callable[[bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""Answers a request, of which it is given the head."""


class SocketConnection:
    """A `protocol.Connection` over one end of a socket pair."""

    def __init__(self, sock: socket.socket, origin: Origin) -> None:
        self._socket, self.origin, self.aborted = sock, origin, False

    async def receive(self) -> bytes:
        if self.aborted:
            raise ConnectionResetError("let go of")
        return await asyncio.get_running_loop().sock_recv(self._socket, 65_536)

    async def send(self, data: bytes) -> None:
        if self.aborted:
            raise ConnectionResetError("let go of")
        await asyncio.get_running_loop().sock_sendall(self._socket, data)

    async def end(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def abort(self) -> None:
        self.aborted = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@dataclass
class Client:
    """A program inside."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    served: asyncio.Task[None]

    async def say(self, data: bytes) -> Client:
        with contextlib.suppress(ConnectionError):
            self.writer.write(data)
            await self.writer.drain()
        return self

    async def head(self) -> bytes:
        """A response's head."""
        return await self.reader.readuntil(b"\r\n\r\n")

    async def rest(self) -> bytes:
        """All that comes until the other side ends or breaks off."""
        got = b""
        with contextlib.suppress(ConnectionError):
            while data := await self.reader.read(65_536):
                got += data
        return got

    async def done(self) -> bytes:
        got = await self.rest()
        self.writer.close()
        await self.served
        return got


@dataclass
class Server:
    """Somebody on the internet: what it was told, and what it says to each request."""

    port: int
    heard: list[bytes] = field(default_factory=list)
    connections: int = 0


@dataclass
class World:
    names: dict[str, Sequence[str]] = field(default_factory=dict)
    told: list[Decided | Closed] = field(default_factory=list)
    asked: list[Attempt] = field(default_factory=list)
    looked_up: list[str] = field(default_factory=list)
    answer: Callable[[Attempt], Awaitable[bool]] | None = None
    stack: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)

    async def resolve(self, name: str) -> Sequence[str]:
        self.looked_up.append(name)
        if name not in self.names:
            raise OSError("no such name")
        return self.names[name]

    async def report(self, told: Decided | Closed) -> None:
        self.told.append(told)

    async def ask(self, attempt: Attempt, decision: Decision) -> bool:
        assert decision.action == "ask"
        self.asked.append(attempt)
        return await self.answer(attempt) if self.answer is not None else False

    def gate(
        self, policy: Policy | None = None, limits: dict[str, Any] | None = None, **network: Any
    ) -> Gate:
        network.setdefault("addresses", LOOPBACK)
        made = Policy(name="test", network=Network(**network), limits=Limits(**(limits or {})))
        return Gate(policy or made, ask=self.ask, report=self.report, resolver=self.resolve)

    async def dial(self, gate: Gate, call: str | None = "00000000000000c1", program: str = "prog") -> Client:
        outer, inner = socket.socketpair()
        for end in (outer, inner):
            end.setblocking(False)
        connection = SocketConnection(inner, Origin(call, 7, program))
        served = asyncio.ensure_future(serve_to_its_end(gate.serve, connection))
        self.stack.push_async_callback(_ended, served)
        reader, writer = await asyncio.open_connection(sock=outer)
        self.stack.callback(writer.close)
        return Client(reader, writer, served)

    async def serve(
        self,
        respond: Respond | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> Server:
        """An HTTP server; without `respond` it says ok to every request and keeps the connection."""

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            server.connections += 1
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
                while True:
                    head = await reader.readuntil(b"\r\n\r\n")
                    server.heard.append(head)
                    await (respond or ok)(head, reader, writer)
                    await writer.drain()
            writer.close()

        listening = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
        server = Server(listening.sockets[0].getsockname()[1])
        self.stack.callback(listening.close)
        return server

    async def listen(
        self, talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
    ) -> Server:
        """A server of any protocol."""

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            server.connections += 1
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await talk(reader, writer)
            writer.close()

        listening = await asyncio.start_server(connected, "127.0.0.1", 0)
        server = Server(listening.sockets[0].getsockname()[1])
        self.stack.callback(listening.close)
        return server

    @property
    def decided(self) -> list[Decided]:
        return [told for told in self.told if isinstance(told, Decided)]

    @property
    def closed(self) -> list[Closed]:
        return [told for told in self.told if isinstance(told, Closed)]


async def ok(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@contextlib.asynccontextmanager
async def new_world() -> AsyncIterator[World]:
    world = World(
        {"allowed.test": ["127.0.0.1"], "x.wild.test": ["127.0.0.1"], "a.b.wild.test": ["127.0.0.1"]}
    )
    async with world.stack:
        yield world


def get(url: str, *headers: str, method: str = "GET") -> bytes:
    authority = url.partition("://")[2].partition("/")[0]
    lines = [f"{method} {url} HTTP/1.1", f"Host: {authority}", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1")


def connect(authority: str) -> bytes:
    return f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode("latin-1")


def socks(host: bytes, port: int) -> bytes:
    return b"\x05\x01\x00" + b"\x05\x01\x00\x03" + bytes([len(host)]) + host + port.to_bytes(2, "big")


def client_hello(name: str | None, context: ssl.SSLContext | None = None) -> bytes:
    """As OpenSSL says it."""
    if context is None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def server_hello(random: bytes = bytes(32)) -> bytes:
    """As much of one as anybody on the way can read, in a record."""
    body = b"\x03\x03" + random + b"\x00\x13\x01\x00\x00\x00"
    message = b"\x02" + len(body).to_bytes(3, "big") + body
    return b"\x16\x03\x03" + len(message).to_bytes(2, "big") + message
