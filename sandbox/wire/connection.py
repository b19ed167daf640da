"""One connection on the loopback inside, host side: a byte stream with a window of its own each way.

Nothing the guest does grows what is kept here: its bytes stay within the credit it was given, and what does
not fit the protocol ends the wire.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from sandbox.errors import SandboxGone, WireError
from sandbox.protocol import Origin
from sandbox.wire.channel import Channel
from sandbox.wire.frames import CONN_WINDOW, END, FRAME_MAX, Request, stream_frames

CREDIT_EVERY = CONN_WINDOW // 4
BATCH = 4 * FRAME_MAX
SMALL = 4096
"""Pieces below this are joined: a window full of single bytes must not become a list of them."""


@dataclass(eq=False)
class StreamConnection:
    """See `protocol.Connection`. One task receives and one sends at a time."""

    channel: Channel
    number: int
    origin: Origin
    finished: Callable[[int], None]
    """Told once, when nothing more can come or go under this number."""

    def __post_init__(self) -> None:
        self._pieces: deque[bytes | bytearray] = deque()
        self._got = self._taken = self._credited = 0
        self._sent = self._consumed = 0
        self._guest_ended = self._ended = self._over = False
        self._broken: str | None = None
        self._news = asyncio.Event()
        self._room = asyncio.Event()

    # --- what it is used for ---

    async def receive(self) -> bytes:
        while True:
            if self._pieces:
                return self._take(self._pieces.popleft())
            if self._broken is not None:
                raise ConnectionResetError(self._broken)
            if self._guest_ended:
                return b""
            self._news.clear()
            await self._news.wait()

    def _take(self, piece: bytes | bytearray) -> bytes:
        self._taken += len(piece)
        if self._taken - self._credited >= CREDIT_EVERY and not self._guest_ended and not self._over:
            self._credited = self._taken
            with contextlib.suppress(SandboxGone):
                self.channel.send(Request.STREAM_CREDIT, self.number, struct.pack("<Q", self._taken))
        return bytes(piece)

    async def send(self, data: bytes) -> None:
        view = memoryview(data)
        while True:
            if self._broken is not None:
                raise ConnectionResetError(self._broken)
            if self._ended:
                raise BrokenPipeError("this connection was ended by its own side")
            if not view:
                return
            room = CONN_WINDOW - (self._sent - self._consumed)
            if room <= 0:
                self._room.clear()
                await self._room.wait()
                continue
            piece = view[: min(room, BATCH)]
            self._sent += len(piece)
            self.channel.send_raw(stream_frames(self.channel.epoch, self.number, piece))
            view = view[len(piece) :]
            # The wire is everybody's: what the engine has not taken is not added to.
            await self.channel.drain()

    async def end(self) -> None:
        if self._ended or self._broken is not None:
            return
        self._ended = True
        with contextlib.suppress(SandboxGone):
            self.channel.send(Request.STREAM, self.number, flag=END)
        self._over_with_both()

    def abort(self) -> None:
        if not self._over:
            with contextlib.suppress(SandboxGone):
                self.channel.send(Request.STREAM_ABORT, self.number)
        self._pieces.clear()
        self.broke("this side has let go of the connection")

    # --- what the wire tells it ---

    def took_in(self, data: bytes, *, end: bool) -> None:
        if self._guest_ended or self._got + len(data) - self._credited > CONN_WINDOW or not (data or end):
            raise WireError("the sandbox broke the protocol: bytes of a connection out of turn")
        self._got += len(data)
        if data:
            self._keep(data)
        if end:
            self._guest_ended = True
            self._over_with_both()
        self._news.set()

    def _keep(self, data: bytes) -> None:
        last = self._pieces[-1] if self._pieces else b""
        if len(data) < SMALL and last and len(last) + len(data) <= FRAME_MAX:
            if not isinstance(last, bytearray):
                self._pieces[-1] = last = bytearray(last)
            last += data
        else:
            self._pieces.append(data)

    def consumed(self, count: int) -> None:
        self._consumed = max(self._consumed, min(count, self._sent))
        self._room.set()

    def broke(self, why: str) -> None:
        if self._broken is None:
            self._broken = why
        self._news.set()
        self._room.set()
        self._finish()

    def _over_with_both(self) -> None:
        if self._ended and self._guest_ended:
            self._finish()

    def _finish(self) -> None:
        if not self._over:
            self._over = True
            self.finished(self.number)
