"""Connections on the loopback inside, host side: each a byte stream with a window of its own both ways.

Nothing the guest does grows what is kept here: its bytes stay within the credit it was given, more
connections than the wire carries are refused, and what does not fit the protocol ends the wire.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from sandbox.channel import Channel, Fault, fault_of
from sandbox.errors import Busy, SandboxGone, WireError
from sandbox.frames import (
    CONN_OURS,
    CONN_WINDOW,
    END,
    FRAME_MAX,
    MAX_CONNS,
    Frame,
    Opened,
    Reply,
    Request,
    decode_count,
    port_request,
    stream_frames,
)
from sandbox.protocol import Connection, Origin

CREDIT_EVERY = CONN_WINDOW // 4
BATCH = 4 * FRAME_MAX
SMALL = 4096
"""Pieces below this are joined: a window full of single bytes must not become a list of them."""
LINGER_S = 30.0
"""How long a connection that was served may take to say its last words."""

Serve = Callable[[Connection], Awaitable[None]]


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

    async def linger(self) -> None:
        """Say no more, and let the other side finish: what was sent is then taken, not reset."""
        with contextlib.suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(LINGER_S):
                await self.end()
                while await self.receive():
                    pass

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


class _Asked:
    """Waits for what comes of a CONNECT: the connection, or FAIL."""

    def __init__(self) -> None:
        self.future: asyncio.Future[StreamConnection] = asyncio.get_running_loop().create_future()

    def heard(self, reply: Frame) -> None:
        if reply.type == Reply.FAIL and not self.future.done():
            self.future.set_exception(fault_of(reply))

    def lost(self, error: SandboxGone) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class Streams:
    """All connections of one box. What is accepted is served in tasks owned here, until `close`."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._servers: dict[int, Serve] = {}
        self._open: dict[int, StreamConnection] = {}
        self._asked: dict[int, _Asked] = {}
        self._serving: set[asyncio.Task[None]] = set()
        self._closed = False
        channel.streams = self

    async def listen(self, port: int, serve: Serve) -> None:
        """See `protocol.Sandbox.listen`."""
        request = _port(port)
        if port in self._servers:
            raise OSError(98, os.strerror(98), f"port {port}")  # EADDRINUSE as it is inside
        # Before it is asked for: the first connection may come with the answer.
        self._servers[port] = serve
        try:
            await self._channel.ask(Request.LISTEN, request)
        except BaseException as error:
            del self._servers[port]
            if isinstance(error, Fault):
                raise OSError(error.code, os.strerror(error.code), f"port {port}") from None
            raise

    async def connect(self, port: int) -> StreamConnection:
        """See `protocol.Sandbox.connect`. Busy when no more connections can be had."""
        request = _port(port)
        number, asked = self._channel.number(), _Asked()
        self._asked[number] = asked
        self._channel.listen(number, asked)
        try:
            self._channel.send(Request.CONNECT, number, request)
            return await asked.future
        except Fault as fault:
            if fault.code == 16:  # EBUSY inside
                raise Busy("this sandbox has no connection left to give") from None
            raise OSError(fault.code, os.strerror(fault.code), f"port {port}") from None
        except asyncio.CancelledError:
            with contextlib.suppress(SandboxGone):
                self._channel.send(Request.STREAM_ABORT, number)
            self._open.pop(number, None)
            raise
        finally:
            self._channel.forget(number)
            self._asked.pop(number, None)

    async def close(self) -> None:
        """Cut every connection and wait for those who served them."""
        self._closed = True
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        for connection in list(self._open.values()):
            connection.abort()

    # --- what the wire tells ---

    def heard(self, reply: Frame) -> None:
        if reply.type == Reply.OPENED:
            self._opened(reply.id, Opened.decode(reply.payload))
            return
        connection = self._open.get(reply.id)
        if connection is None:
            return  # it was let go of while this was under way
        if reply.type == Reply.STREAM_DATA:
            connection.took_in(reply.payload, end=bool(reply.flag & END))
        elif reply.type == Reply.STREAM_TAKEN:
            connection.consumed(decode_count(reply.payload))
        else:
            connection.broke(f"the program inside broke the connection: {fault_of(reply)}")

    def lost(self, error: SandboxGone) -> None:
        for connection in list(self._open.values()):
            connection.broke(str(error))

    def _opened(self, number: int, opened: Opened) -> None:
        if number in self._open:
            raise WireError("the sandbox broke the protocol: a connection that is there already")
        origin = Origin(
            call_id=f"{opened.call:016x}" if opened.call else None,
            pid=opened.pid or None,
            program=opened.program.decode("utf-8", "replace"),
        )
        if number < CONN_OURS:
            asked = self._asked.get(number)
            if asked is not None and not asked.future.done():
                asked.future.set_result(self._enter(number, origin))
            return
        serve = self._servers.get(opened.port)
        if serve is None or self._closed or len(self._serving) >= MAX_CONNS:
            self._channel.send(Request.STREAM_ABORT, number)
            return
        connection = self._enter(number, origin)
        task = asyncio.create_task(_serve(serve, connection), name=f"connection to port {opened.port}")
        self._serving.add(task)
        task.add_done_callback(self._served)

    def _enter(self, number: int, origin: Origin) -> StreamConnection:
        connection = StreamConnection(self._channel, number, origin, self._forget)
        self._open[number] = connection
        return connection

    def _forget(self, number: int) -> None:
        self._open.pop(number, None)

    def _served(self, task: asyncio.Task[None]) -> None:
        self._serving.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            message = "serving a connection of a sandbox failed"
            task.get_loop().call_exception_handler({"message": message, "exception": error, "task": task})


async def _serve(serve: Serve, connection: StreamConnection) -> None:
    """Served to the end, it is closed as a program closes; anything else is seen as a reset inside."""
    try:
        await serve(connection)
        await connection.linger()
    finally:
        connection.abort()


def _port(port: int) -> bytes:
    if not 1 <= port <= 65_535:
        raise ValueError(f"a port is from 1 to 65535, not {port}")
    return port_request(port)
