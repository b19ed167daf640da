"""All connections of one box: who listens for them, who serves them, and what the wire tells of them.

More connections than the wire carries are refused, also where the guest drops and dials faster than they are
served.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable

from sandbox.errors import Busy, SandboxGone, WireError
from sandbox.protocol import Connection, Origin
from sandbox.wire.channel import Channel, Fault, fault_of
from sandbox.wire.connection import StreamConnection
from sandbox.wire.frames import CONN_OURS, END, MAX_CONNS, Frame, Reply, Request
from sandbox.wire.payloads import Opened, decode_count, port_request

LINGER_S = 30.0
"""How long a connection that was served may take to say its last words."""

Serve = Callable[[Connection], Awaitable[None]]


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
        with contextlib.suppress(SandboxGone):
            # All at once: a program that sees its connection cut and dials again waits for another host.
            self._channel.send(Request.STREAM_ABORT, 0)
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
        task = asyncio.create_task(
            serve_to_its_end(serve, connection), name=f"connection to port {opened.port}"
        )
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


async def serve_to_its_end(serve: Serve, connection: Connection) -> None:
    """Once served it is closed as a program closes: what was sent is taken. Anything else is a reset."""
    try:
        await serve(connection)
        with contextlib.suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(LINGER_S):
                await connection.end()
                while await connection.receive():
                    pass
    finally:
        connection.abort()


def _port(port: int) -> bytes:
    if not 1 <= port <= 65_535:
        raise ValueError(f"a port is from 1 to 65535, not {port}")
    return port_request(port)
