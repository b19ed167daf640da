"""The host's side of connections against a guest that says whatever it likes (P03, B16)."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator

import pytest

from sandbox.errors import SandboxGone, WireError
from sandbox.protocol import Connection
from sandbox.wire.channel import Channel
from sandbox.wire.connection import StreamConnection
from sandbox.wire.frames import CONN_OURS, CONN_WINDOW, END, FRAME_MAX, MAX_CONNS, Frame, Reply, Request
from sandbox.wire.streams import Streams

OURS = CONN_OURS + 1


class Init:
    """The other end: keeps what the host sends, and says what a test wants."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, int, int, int, bytes]] = []
        """Type, flag, aux, id, payload."""
        self.received = self.closed = lambda _: None

    def write(self, data: bytes) -> None:
        while data:
            _, length, kind, flag, aux, _, number = struct.unpack_from("<IIBBHIQ", data)
            self.sent.append((kind, flag, aux, number, bytes(data[24 : 24 + length])))
            data = data[28 + length :]
            if kind in (Request.LISTEN, Request.PING):
                asyncio.get_running_loop().call_soon(self.say, Reply.OK, number, b"", END)

    async def drain(self) -> None: ...

    def close(self) -> None: ...

    def say(self, kind: Reply, number: int, payload: bytes = b"", flag: int = 0) -> None:
        self.streams.heard(Frame(kind, flag, number, payload)) if kind >= Reply.OPENED else self._answer(
            Frame(kind, flag, number, payload)
        )

    def _answer(self, reply: Frame) -> None:
        waiter = self.channel._waiters.get(reply.id)
        if waiter is not None:
            waiter.heard(reply)

    def opened(self, number: int = OURS, port: int = 80, program: bytes = b"curl x") -> None:
        self.say(Reply.OPENED, number, struct.pack("<HHiQ", port, 0, 7, 1 << 40) + program)

    def of(self, kind: Request) -> list[int]:
        return [number for one, _, _, number, _ in self.sent if one == kind]

    streams: Streams
    channel: Channel


@pytest.fixture
async def init() -> AsyncIterator[Init]:
    end = Init()
    end.channel = Channel(end)  # type: ignore[arg-type]
    end.streams = Streams(end.channel)
    yield end
    await end.streams.close()


async def accepted(init: Init, **fields: int) -> StreamConnection:
    found: asyncio.Queue[Connection] = asyncio.Queue()

    async def serve(connection: Connection) -> None:
        found.put_nowait(connection)
        await asyncio.Event().wait()

    await init.streams.listen(80, serve)
    init.opened(**fields)
    connection = await found.get()
    assert isinstance(connection, StreamConnection)
    return connection


async def test_origin_is_told_and_hostile_words_stay_words(init: Init) -> None:
    await init.streams.listen(80, lambda connection: asyncio.sleep(9))
    init.opened(program=b"\x1b[2Jcurl \xff" + b"x" * 200)
    [connection] = init.streams._open.values()
    assert (connection.origin.call_id, connection.origin.pid) == (f"{1 << 40:016x}", 7)
    assert connection.origin.program.startswith("\x1b[2Jcurl \ufffdx")


@pytest.mark.parametrize(
    ("kind", "payload", "flag"),
    [
        (Reply.OPENED, b"", 0),
        (Reply.OPENED, bytes(15), 0),
        (Reply.OPENED, bytes(16 + 257), 0),
        (Reply.OPENED, struct.pack("<HHiQ", 80, 1, 7, 0), 0),
        (Reply.OPENED, struct.pack("<HHiQ", 80, 0, -1, 0), 0),
        (Reply.OPENED, struct.pack("<HHiQ", 80, 0, 7, 0), 0),
        (Reply.STREAM_DATA, b"", 0),
        (Reply.STREAM_TAKEN, b"1234567", 0),
        (Reply.STREAM_BROKEN, b"", 0),
    ],
)
async def test_what_is_no_frame_of_a_connection_ends_the_wire(
    init: Init, kind: Reply, payload: bytes, flag: int
) -> None:
    await accepted(init)
    with pytest.raises(WireError):
        init.say(kind, OURS, payload, flag)


async def test_bytes_beyond_the_credit_end_the_wire_and_are_not_kept(init: Init) -> None:
    await accepted(init)
    for _ in range(CONN_WINDOW // FRAME_MAX):
        init.say(Reply.STREAM_DATA, OURS, bytes(FRAME_MAX))
    with pytest.raises(WireError):
        init.say(Reply.STREAM_DATA, OURS, b"x")


async def test_bytes_after_the_end_end_the_wire(init: Init) -> None:
    await accepted(init)
    init.say(Reply.STREAM_DATA, OURS, b"last", END)
    with pytest.raises(WireError):
        init.say(Reply.STREAM_DATA, OURS, b"x")


async def test_a_window_of_single_bytes_is_kept_as_few_pieces(init: Init) -> None:
    connection = await accepted(init)
    for _ in range(CONN_WINDOW):
        connection.took_in(b"x", end=False)
    assert len(connection._pieces) <= CONN_WINDOW // FRAME_MAX
    total = 0
    while total < CONN_WINDOW:
        piece = await connection.receive()
        assert len(piece) <= FRAME_MAX
        total += len(piece)
    assert total == CONN_WINDOW


async def test_streams_that_nobody_knows_are_dropped(init: Init) -> None:
    for kind, payload in (
        (Reply.STREAM_DATA, b"x"),
        (Reply.STREAM_TAKEN, bytes(8)),
        (Reply.STREAM_BROKEN, b""),
    ):
        init.say(kind, 12345, payload)
    assert init.sent == []


async def test_a_connection_to_a_port_nobody_asked_for_is_cut(init: Init) -> None:
    await accepted(init)
    init.opened(OURS + 1, port=81)
    assert init.of(Request.STREAM_ABORT) == [OURS + 1]


async def test_more_connections_than_the_wire_carries_are_cut_also_when_the_guest_drops_them(
    init: Init,
) -> None:
    """Each that is dropped is still being served: what they hold must not add up."""

    async def slow(connection: Connection) -> None:
        await asyncio.sleep(60)

    await init.streams.listen(80, slow)
    for number in range(3 * MAX_CONNS):
        init.opened(OURS + number)
        init.say(Reply.STREAM_BROKEN, OURS + number, struct.pack("<I", 104))
    assert len(init.streams._serving) == MAX_CONNS
    assert init.of(Request.STREAM_ABORT) == [OURS + number for number in range(MAX_CONNS, 3 * MAX_CONNS)]
    assert init.streams._open == {}


async def test_no_more_than_the_window_is_sent_to_a_program_that_does_not_read(init: Init) -> None:
    connection = await accepted(init)
    sending = asyncio.create_task(connection.send(bytes(3 * CONN_WINDOW)))
    await asyncio.sleep(0.01)
    assert sum(len(payload) for kind, *_, payload in init.sent if kind == Request.STREAM) == CONN_WINDOW
    # More than was ever sent cannot have been taken: no credit comes of that.
    init.say(Reply.STREAM_TAKEN, OURS, struct.pack("<Q", 1 << 60))
    await asyncio.sleep(0.01)
    assert sum(len(payload) for kind, *_, payload in init.sent if kind == Request.STREAM) == 2 * CONN_WINDOW
    assert not sending.done()
    sending.cancel()


async def test_what_came_before_a_break_is_read_then_the_break(init: Init) -> None:
    connection = await accepted(init)
    init.say(Reply.STREAM_DATA, OURS, b"before")
    init.say(Reply.STREAM_BROKEN, OURS, struct.pack("<I", 104))
    assert await connection.receive() == b"before"
    for operation in (connection.receive(), connection.send(b"x")):
        with pytest.raises(ConnectionResetError):
            await operation
    await connection.end()
    connection.abort()
    assert init.of(Request.STREAM_ABORT) == []  # it is over there already


async def test_a_served_connection_is_ended_not_cut_and_one_that_failed_is_cut(init: Init) -> None:
    failures: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context["exception"]))

    async def refuse(connection: Connection) -> None:
        if connection.origin.program == "broken":
            raise LookupError("a mistake of the server's own")
        await connection.send(b"403")

    await init.streams.listen(80, refuse)
    init.opened()
    init.opened(OURS + 1, program=b"broken")
    await asyncio.sleep(0.02)
    assert (Request.STREAM, END, 0, OURS, b"") in init.sent
    assert init.of(Request.STREAM_ABORT) == [OURS + 1]
    assert [type(one) for one in failures] == [LookupError]
    init.say(Reply.STREAM_DATA, OURS, b"", END)  # the program has heard all and closes
    await asyncio.sleep(0.02)
    assert init.of(Request.STREAM_ABORT) == [OURS + 1]
    assert not init.streams._serving


async def test_connecting_is_answered_under_its_number_and_given_up_when_cancelled(init: Init) -> None:
    asked = asyncio.create_task(init.streams.connect(3000))
    await asyncio.sleep(0)
    [number] = init.of(Request.CONNECT)
    init.opened(number, port=0, program=b"")
    connection = await asked
    init.say(Reply.STREAM_DATA, number, b"hello", END)
    assert (await connection.receive(), await connection.receive()) == (b"hello", b"")

    asked = asyncio.create_task(init.streams.connect(3000))
    await asyncio.sleep(0)
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    assert init.of(Request.STREAM_ABORT) == [init.of(Request.CONNECT)[1]]
    init.opened(init.of(Request.CONNECT)[1], port=0)  # too late
    assert list(init.streams._open) == [number]


async def test_a_connection_that_is_there_already_ends_the_wire(init: Init) -> None:
    await accepted(init)
    with pytest.raises(WireError):
        init.opened()


async def test_the_end_of_the_wire_ends_every_connection(init: Init) -> None:
    connection = await accepted(init)
    waiting = asyncio.create_task(connection.receive())
    await asyncio.sleep(0)
    init.channel._closed("the container has ended")
    with pytest.raises(ConnectionError, match="the container has ended"):
        await waiting
    with pytest.raises(SandboxGone):
        await init.streams.listen(81, lambda one: asyncio.sleep(0))
    with pytest.raises(SandboxGone):
        await init.streams.connect(81)


async def test_closing_cuts_what_is_served_and_waits_for_it(init: Init) -> None:
    ended = asyncio.Event()

    async def serve(connection: Connection) -> None:
        try:
            await connection.receive()
        finally:
            await asyncio.sleep(0.01)
            ended.set()

    await init.streams.listen(80, serve)
    init.opened()
    await asyncio.sleep(0)
    await init.streams.close()
    assert ended.is_set()
    assert init.of(Request.STREAM_ABORT) == [0, OURS]
