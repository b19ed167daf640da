"""No connection is unbounded: how many, how long, how much; and one that floods hinders no other."""

from __future__ import annotations

import asyncio
import socket

import pytest
from gate_world import World, get
from test_gate_answers import endless

from sandbox.egress import Attempt, Gate, exchange
from sandbox.egress import gate as gate_module
from sandbox.egress.live import Pace
from sandbox.egress.questions import AT_ONCE


async def test_so_many_connections_at_once_and_one_more_waits(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "HUNG_UP_S", 0.01)
    server = await world.serve(endless)
    gate = world.gate(allow=(f"allowed.test:{server.port}",), limits={"connections": 2})
    url = f"http://allowed.test:{server.port}/"
    clients = [await (await world.dial(gate)).say(get(url)) for _ in range(4)]
    for client in clients[:2]:
        await client.head()
    await asyncio.sleep(0.05)
    assert server.connections == 2
    clients[0].writer.close()
    await clients[2].head()
    assert server.connections == 3


async def test_silent_connections_are_given_up_and_another_session_does_not_notice(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate_module, "HEAD_S", 0.05)
    server = await world.serve()
    flooded = world.gate(limits={"connections": 4})
    other = world.gate(allow=(f"allowed.test:{server.port}",))
    silent = [await world.dial(flooded) for _ in range(300)]
    client = await (await world.dial(other)).say(get(f"http://allowed.test:{server.port}/"))
    assert b" 200 " in await client.head()
    for one in silent[:20]:
        await one.served
    assert {told.reason for told in world.decided if told.decision == "deny"} == {"nothing was said in time"}


async def test_a_connection_on_which_nothing_moves_is_closed(world: World) -> None:
    server = await world.serve(endless)
    gate = world.gate(allow=(f"allowed.test:{server.port}",), limits={"idle_s": 0.1})
    client = await (await world.dial(gate)).say(get(f"http://allowed.test:{server.port}/"))
    assert b" 200 " in await client.head()
    assert await client.done() == b"some"
    assert "limits.idle_s" in world.closed[0].why


async def test_what_is_open_when_the_session_ends_is_recorded_with_what_it_moved(world: World) -> None:
    server = await world.serve(endless)
    gate = world.gate(allow=(f"allowed.test:{server.port}",))
    client = await (await world.dial(gate)).say(get(f"http://allowed.test:{server.port}/"))
    await client.head()
    client.served.cancel()
    await asyncio.gather(client.served, return_exceptions=True)
    assert client.served.cancelled()
    assert [(told.why, told.bytes_in > 0) for told in world.closed] == [("the session ended", True)]


async def test_a_server_that_never_answers_is_a_timeout(world: World) -> None:
    async def mute(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        raise ConnectionError

    server = await world.serve(mute)
    gate = world.gate(allow=(f"allowed.test:{server.port}",), limits={"idle_s": 0.1})
    client = await (await world.dial(gate)).say(get(f"http://allowed.test:{server.port}/"))
    assert (await client.done()).startswith(b"HTTP/1.1 504 ")


@pytest.mark.parametrize("slow", ["name", "address"])
async def test_reaching_a_host_has_its_time(world: World, slow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(name: str) -> list[str]:
        await asyncio.Event().wait()
        return []

    # A queue of one that is full: the kernel answers no further SYN.
    full = socket.create_server(("127.0.0.1", 0), backlog=0)
    port = full.getsockname()[1]
    waiting = [socket.socket() for _ in range(3)]
    for one in waiting:
        one.setblocking(False)
        one.connect_ex(("127.0.0.1", port))
    if slow == "name":
        monkeypatch.setattr(world, "resolve", never)
    gate = world.gate(allow=(f"allowed.test:{port}",), limits={"connect_s": 0.2})
    client = await (await world.dial(gate)).say(get(f"http://allowed.test:{port}/"))
    assert (await client.done()).startswith(b"HTTP/1.1 504 ")
    for one in (full, *waiting):
        one.close()


async def streamed(world: World, gate: Gate, port: int, out: int, back: int) -> tuple[int, int]:
    client = await world.dial(gate)
    fields = ("Connection: close", f"Content-Length: {out}")
    head = get(f"http://allowed.test:{port}/{back}", *fields, method="POST")
    sending = asyncio.ensure_future(client.say(head + bytes(out)))
    got = await client.done()
    await sending
    return world.closed[-1].bytes_out, len(got)


@pytest.mark.parametrize("limit", ["egress_mb", "ingress_mb"])
async def test_a_session_moves_so_much_and_no_more(world: World, limit: str) -> None:
    taken = 0

    async def respond(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal taken
        size, back = int(head.partition(b"Content-Length: ")[2].split()[0]), int(head.split()[1][1:])
        while size and (data := await reader.read(min(size, 65_536))):
            size, taken = size - len(data), taken + len(data)
        writer.write(
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % back + bytes(back)
        )

    server = await world.serve(respond)
    gate = world.gate(allow=(f"allowed.test:{server.port}",), limits={limit: 1})
    half = 600 << 10
    out, back = (half, 1) if limit == "egress_mb" else (1, half)
    await streamed(world, gate, server.port, out, back)
    assert world.closed[-1].why == "done"
    _, got = await streamed(world, gate, server.port, out, back)
    assert limit in world.closed[-1].why
    assert (taken if limit == "egress_mb" else got) < 2 * half
    assert sum(told.bytes_out for told in world.closed) <= (1 << 20 if limit == "egress_mb" else 1 << 30)


async def test_decisions_are_recorded_no_faster_than_the_host_can_keep_them(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pace, "AT_ONCE", 5)
    monkeypatch.setattr(Pace, "PER_SECOND", 0.001)
    server = await world.serve()
    gate = world.gate(allow=(f"allowed.test:{server.port}",))
    client = await world.dial(gate)
    await client.say(get(f"http://allowed.test:{server.port}/") * 20)
    await asyncio.sleep(0.2)
    assert len(world.decided) == len(server.heard) == 5


async def test_a_program_does_not_flood_the_user_with_questions(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def thinks(attempt: Attempt) -> bool:
        await asyncio.Event().wait()
        return True

    world.answer = thinks
    gate = world.gate(ask=True)
    for number in range(40):
        await (await world.dial(gate)).say(get(f"http://n{number}.wild.test/"))
    while len(world.decided) < 40 - AT_ONCE:
        await asyncio.sleep(0.01)
    assert len(world.asked) == AT_ONCE
    assert "Too many questions" in world.decided[-1].reason


async def test_a_program_that_does_not_read_holds_nothing_but_its_own_window(world: World) -> None:
    sent = 0

    async def respond(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while True:
            writer.write(bytes(65_536))
            await writer.drain()
            sent += 65_536

    server = await world.serve(respond)
    gate = world.gate(allow=(f"allowed.test:{server.port}",))
    client = await (await world.dial(gate)).say(get(f"http://allowed.test:{server.port}/"))
    await client.head()
    client.reader._transport.pause_reading()  # type: ignore[attr-defined]
    before = -1
    while before != sent:
        before = sent
        await asyncio.sleep(0.1)
    # What the kernel buffers of three sockets and the reader, far from the whole.
    assert sent < 64 << 20
