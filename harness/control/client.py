"""The other end of the control socket: what a command says to a session that another process runs."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

from harness.control.server import reachable
from harness.errors import HarnessError, UsageError
from harness.messages import JsonObject

MAX_ANSWER = 64 << 20
ANSWER_S = 10.0


class NotRunning(UsageError):
    """Nobody listens: the session has ended, or is about to begin."""

    def __init__(self, session: str) -> None:
        super().__init__(
            f"session {session} is not running, or does not listen; `usermode ps` lists sessions"
        )


class Line:
    """An open conversation with one session."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, **request: object) -> JsonObject:
        """One request and its answer. UsageError with the session's own words when it refuses."""
        self.writer.write(json.dumps(request).encode() + b"\n")
        try:
            async with asyncio.timeout(ANSWER_S):
                await self.writer.drain()
                answer: Any = json.loads(await self.reader.readuntil(b"\n"))
        except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError) as exc:
            raise HarnessError("the session broke off without an answer") from exc
        if not answer.get("ok"):
            raise UsageError(str(answer.get("error")))
        return cast(JsonObject, answer)


@asynccontextmanager
async def line_to(directory: Path) -> AsyncIterator[Line]:
    """A conversation with the session of this directory. Raises NotRunning."""
    loop = asyncio.get_running_loop()
    dialled = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    dialled.setblocking(False)
    try:
        with reachable(directory) as (_, path):
            await loop.sock_connect(dialled, path)
        reader, writer = await asyncio.open_unix_connection(sock=dialled, limit=MAX_ANSWER)
    except OSError as exc:
        dialled.close()
        raise NotRunning(directory.name) from exc
    try:
        yield Line(reader, writer)
    finally:
        writer.transport.abort()
