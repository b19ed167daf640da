"""Lines from a file, a pipe or a terminal without an editor. Read only as they are asked for."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from harness.errors import UsageError

PIECE = 64 << 10
LINE_BYTES = 1 << 20


class Lines:
    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._read = bytearray()
        self._ended = False
        self._ready: asyncio.Future[None] | None = None
        self._lent = 0

    async def line(self) -> str | None:
        """The next line, without its end; None when there is none. Raises UsageError for an endless one."""
        while True:
            line, found, rest = self._read.partition(b"\n")
            if found or self._ended:
                self._read = rest
                return line.decode(errors="replace") if found or line else None
            if len(line) > LINE_BYTES:
                raise UsageError(f"a line is longer than {LINE_BYTES >> 10} KiB; put it into a file")
            await self._readable()
            try:
                data = os.read(self._fd, PIECE)
            except OSError:
                data = b""  # The terminal has gone.
            self._read += data
            self._ended = not data

    @asynccontextmanager
    async def lent(self) -> AsyncIterator[None]:
        """Somebody else reads what is typed while the block runs."""
        self._lent += 1
        self._watch()
        try:
            yield
        finally:
            self._lent -= 1
            self._watch()

    async def _readable(self) -> None:
        self._ready = asyncio.get_running_loop().create_future()
        try:
            self._watch()
            await self._ready
        finally:
            self._ready = None
            self._watch()

    def _watch(self) -> None:
        """Look at the descriptor exactly while somebody waits for it, and nobody else has it."""
        loop = asyncio.get_running_loop()
        try:
            if self._ready is None or self._lent:
                loop.remove_reader(self._fd)
            else:
                loop.add_reader(self._fd, self._is_ready)
        except PermissionError:
            self._is_ready()  # A file cannot be waited for: it always is.

    def _is_ready(self) -> None:
        if self._ready is not None and not self._ready.done():
            self._ready.set_result(None)
