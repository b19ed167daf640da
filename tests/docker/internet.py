"""The internet, on this machine's loopback: a file server by TLS under names of its own, and a websocket."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import ssl
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from sandbox.egress.authority import Authority

_WEBSOCKET = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""The GUID of RFC 6455."""


@dataclass
class Internet:
    """Every name ends in `.test`; each is a directory of files."""

    root: Path
    authority: Authority = field(default_factory=lambda: Authority("internet"))
    https: int = 0
    http: int = 0
    heard: list[str] = field(default_factory=list)
    """`METHOD host path`, as each request came."""

    @property
    def ca_file(self) -> str:
        path = self.root / "ca.pem"
        path.write_bytes(self.authority.pem)
        return str(path)

    def site(self, host: str) -> Path:
        path = self.root / host
        path.mkdir(exist_ok=True)
        return path

    async def resolve(self, name: str) -> Sequence[str]:
        if not name.endswith(".test"):
            raise OSError("no such name")
        return ["127.0.0.1"]


@contextlib.asynccontextmanager
async def internet(root: Path) -> AsyncIterator[Internet]:
    net = Internet(root)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            while await _request(net, reader, writer):
                await writer.drain()
        writer.close()

    def named(connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        connection.context = net.authority.context(name or "nobody.test")

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["http/1.1"])
    context.sni_callback = named
    async with (
        await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context, limit=1 << 20) as secure,
        await asyncio.start_server(connected, "127.0.0.1", 0, limit=1 << 20) as plain,
    ):
        net.https, net.http = (server.sockets[0].getsockname()[1] for server in (secure, plain))
        yield net


async def _request(net: Internet, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Answer one request; whether another may follow."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.split("\r\n")
    method, target, _ = first.split(" ")
    headers = {
        name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)
    }
    host = headers["host"].split(":")[0]
    net.heard.append(f"{method} {host} {target}")
    await reader.readexactly(int(headers.get("content-length", 0)))
    if "sec-websocket-key" in headers:
        await _websocket(headers["sec-websocket-key"], reader, writer)
        return False
    path = (net.root / host / unquote(target.partition("?")[0]).lstrip("/")).resolve()
    if path.is_dir():
        path /= "index.html"
    found = path.is_file() and path.is_relative_to(net.root / host)
    body = path.read_bytes() if found else b"nothing here\n"
    kind = "text/html" if path.suffix == ".html" else "application/octet-stream"
    writer.write(
        f"HTTP/1.1 {'200 OK' if found else '404 Not Found'}\r\nContent-Length: {len(body)}\r\n"
        f"Content-Type: {kind}\r\n\r\n".encode()
    )
    if method != "HEAD":
        writer.write(body)
    return headers.get("connection", "").lower() != "close"


async def _websocket(key: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Sends each short text frame back, backwards."""
    accept = base64.b64encode(hashlib.sha1(key.encode() + _WEBSOCKET).digest()).decode()
    writer.write(
        f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
    )
    while True:
        first, length = await reader.readexactly(2)
        if first != 0x81:
            return
        mask = await reader.readexactly(4)
        masked = await reader.readexactly(length & 0x7F)
        text = bytes(byte ^ mask[at % 4] for at, byte in enumerate(masked))[::-1]
        writer.write(bytes((0x81, len(text))) + text)
        await writer.drain()
