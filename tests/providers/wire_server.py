"""A model's service on the loopback: answers as told, byte for byte, and keeps every request as it came.

The real wire and nothing on top: status line, headers, chunked body. Each request takes the next answer of
the list.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Answer:
    """What one request gets."""

    chunks: tuple[bytes, ...] = ()
    status: int = 200
    headers: tuple[tuple[str, str], ...] = (("content-type", "text/event-stream; charset=utf-8"),)
    pause_s: float = 0.0
    """Before each chunk but the first."""
    ending: str = "whole"
    """After the chunks: `whole` ends the body, `cut` resets the connection, `open` keeps it, silent."""


@dataclass
class Asked:
    path: str
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.raw)


@dataclass
class WireServer:
    answers: list[Answer] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    port: int = 0
    connections: int = 0
    _open: int = 0
    _none_open: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def closed(self) -> None:
        """Returns once no connection is open."""
        if self._open:
            await self._none_open.wait()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        self._none_open.clear()
        self.connections += 1
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()
            self._open -= 1
            if not self._open:
                self._none_open.set()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; False when the connection is done."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        raw = await reader.readexactly(int(headers.get("content-length", "0")))
        self.asked.append(Asked(head[0].split()[1], headers, raw))
        answer = self.answers.pop(0)
        lines = [f"HTTP/1.1 {answer.status} Whatever", "transfer-encoding: chunked"]
        lines += [f"{name}: {value}" for name, value in answer.headers]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        for number, chunk in enumerate(answer.chunks):
            await asyncio.sleep(answer.pause_s if number else 0)
            writer.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
            await writer.drain()
        if answer.ending == "open":
            await reader.read()  # Until the client leaves.
            return False
        if answer.ending == "cut":
            await asyncio.sleep(0.05)  # So that the client reads what was sent before the reset.
            return False
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True


@asynccontextmanager
async def wire_server(*answers: Answer) -> AsyncIterator[WireServer]:
    server = WireServer(list(answers))
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        await server.closed()


def sse(*events: dict[str, Any] | str, named: bool = True) -> tuple[bytes, ...]:
    """Events as a service writes them, a chunk each: with their type as name, or bare data as chat services
    do.
    """
    chunks = []
    for event in events:
        data = event if isinstance(event, str) else json.dumps(event, ensure_ascii=False)
        name = f"event: {event['type']}\n" if named and isinstance(event, dict) else ""
        chunks.append(f"{name}data: {data}\n\n".encode())
    return tuple(chunks)


def recut(chunks: Iterable[bytes], size: int) -> tuple[bytes, ...]:
    """The same bytes, cut every `size` bytes."""
    whole = b"".join(chunks)
    return tuple(whole[start : start + size] for start in range(0, len(whole), size))


def refusal(status: int, body: Any, **headers: str) -> Answer:
    """An answer that is no stream; header names may use `_` for `-`."""
    raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    media = "text/html" if isinstance(body, str) else "application/json"
    extra = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return Answer((raw,), status, (("content-type", media), *extra))
