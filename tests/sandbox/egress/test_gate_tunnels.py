"""Tunnels: TLS must name the host that was allowed; what is not TLS is HTTP, or on a port that is listed."""

from __future__ import annotations

import asyncio

import pytest
from gate_world import Client, World, client_hello, connect, server_hello, socks

from sandbox.egress import tunnel

HELLO = client_hello("allowed.test")
ANSWER = server_hello()


async def opened(client: Client, opening: bytes) -> None:
    await client.say(opening)
    if opening[0] == 5:
        assert (await client.reader.readexactly(12))[:4] == b"\x05\x00\x05\x00"
    else:
        assert b" 200 " in await client.head()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()


async def answer_and_echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """To whoever is on the way, a server of TLS."""
    first = await reader.read(65_536)
    writer.write(ANSWER + first)
    await echo(reader, writer)


def openings(port: int, host: str = "allowed.test") -> list[bytes]:
    return [connect(f"{host}:{port}"), socks(host.encode(), port)]


async def test_tls_that_names_the_host_is_carried_both_ways_to_both_ends(world: World) -> None:
    server = await world.listen(answer_and_echo)
    gate = world.gate(allow=("allowed.test",), ports=(server.port,))
    for opening in openings(server.port):
        client = await world.dial(gate)
        await opened(client, opening)
        # In pieces: the beginning may come a byte at a time.
        for byte in HELLO[:30]:
            await client.say(bytes([byte]))
            await asyncio.sleep(0)
        await client.say(HELLO[30:] + b"more")
        expected = ANSWER + HELLO + b"more"
        assert await client.reader.readexactly(len(expected)) == expected
        client.writer.write_eof()
        assert await client.done() == b""
    assert world.closed[0].bytes_out == len(HELLO) + 4
    assert world.closed[0].bytes_in == len(ANSWER) + len(HELLO) + 4


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (client_hello("evil.test"), "names another host"),
        (client_hello("allowed.test.evil.test"), "names another host"),
        (client_hello(None), "names no host"),
        (client_hello("127.0.0.1"), "names no host"),
        (HELLO[:76] + b"\xff\xff" + HELLO[78:], "cut short"),
        (b"\x16\x03\x01\x00\x00", "impossible size"),
        (b"\x16\x03\x01\xff\xff" + bytes(100), "impossible size"),
        (b"\x17\x03\x03\x00\x01a", ""),
        (b"SSH-2.0-OpenSSH\r\n", ""),
        (b"\x80\x2e\x01\x03\x01", ""),
    ],
)
@pytest.mark.parametrize("https", [True, False])
async def test_what_does_not_name_the_host_in_tls_sends_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, words: bytes, why: str, https: bool
) -> None:
    got = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.append(await reader.read())

    server = await world.listen(listen)
    monkeypatch.setattr(tunnel, "HTTPS", server.port if https else 443)
    gate = world.gate(allow=("allowed.test",), ports=(server.port,))
    for opening in openings(server.port):
        client = await world.dial(gate)
        await opened(client, opening)
        await client.say(words)
        client.writer.write_eof()
        await client.done()
    await asyncio.sleep(0.01)
    assert got == [b"", b""]
    assert [told.decision for told in world.decided] == ["allow", "deny"] * 2
    assert why in world.decided[1].reason


async def test_plain_http_on_443_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    server = await world.serve()
    monkeypatch.setattr(tunnel, "HTTPS", server.port)
    gate = world.gate(allow=(f"allowed.test:{server.port}",))
    client = await world.dial(gate)
    await opened(client, connect(f"allowed.test:{server.port}"))
    await client.say(b"GET / HTTP/1.1\r\nHost: allowed.test\r\n\r\n")
    assert await client.done() == b""
    assert server.heard == []
    assert world.decided[-1].rule == "tls"


async def test_http_inside_a_tunnel_is_for_the_tunnels_host_only(world: World) -> None:
    server = await world.serve()
    gate = world.gate(allow=("allowed.test", "*.wild.test"), ports=(server.port,))
    authority = f"allowed.test:{server.port}"
    for hostile in (
        f"GET / HTTP/1.1\r\nHost: x.wild.test:{server.port}\r\n\r\n",
        f"GET http://x.wild.test:{server.port}/ HTTP/1.1\r\nHost: x.wild.test:{server.port}\r\n\r\n",
        f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
    ):
        client = await world.dial(gate)
        await opened(client, connect(authority))
        await client.say(f"GET /1 HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
        assert b" 200 " in await client.head()
        await client.reader.readexactly(2)
        await client.say(hostile.encode())
        assert (await client.done()).startswith(b"HTTP/1.1 400 ")
    assert {head.split()[1] for head in server.heard} == {b"/1"}


async def test_on_a_port_that_is_named_the_other_side_may_speak_first(world: World) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hello\r\n")
        await echo(reader, writer)

    server = await world.listen(greet)
    gate = world.gate(allow=(f"allowed.test:{server.port}",))
    for opening in openings(server.port):
        client = await world.dial(gate)
        await opened(client, opening)
        assert await client.reader.readexactly(11) == b"220 hello\r\n"
        await client.say(b"\x00\x16\x03 anything")
        assert await client.reader.readexactly(12) == b"\x00\x16\x03 anything"
        client.writer.close()


async def test_also_on_a_named_port_tls_is_for_the_host_that_was_allowed(world: World) -> None:
    server = await world.listen(echo)
    gate = world.gate(allow=(f"allowed.test:{server.port}",))
    client = await world.dial(gate)
    await opened(client, connect(f"allowed.test:{server.port}"))
    await client.say(HELLO)
    assert await client.reader.readexactly(len(HELLO)) == HELLO
    fronting = await world.dial(gate)
    await opened(fronting, connect(f"allowed.test:{server.port}"))
    await fronting.say(client_hello("evil.test"))
    assert await fronting.done() == b""
    assert world.decided[-1].rule == "tls"


async def test_an_address_needs_no_name_in_tls(world: World) -> None:
    server = await world.listen(echo)
    gate = world.gate(allow=(f"127.0.0.1:{server.port}",))
    client = await world.dial(gate)
    await opened(client, connect(f"127.0.0.1:{server.port}"))
    hello = client_hello(None)
    await client.say(hello)
    assert await client.reader.readexactly(len(hello)) == hello
    naming = await world.dial(gate)
    await opened(naming, connect(f"127.0.0.1:{server.port}"))
    await naming.say(client_hello("evil.test"))
    assert await naming.done() == b""


@pytest.mark.parametrize(
    ("said", "reply"),
    [
        (b"\x05\x00", b"\x05\xff"),
        (b"\x05\x01\x02", b"\x05\xff"),
        (b"\x05\x01\x00\x05\x02\x00\x01\x7f\x00\x00\x01\x00\x50", b"\x05\x00\x05\x07"),
        (b"\x05\x01\x00\x05\x03\x00\x01\x7f\x00\x00\x01\x00\x50", b"\x05\x00\x05\x07"),
        (b"\x05\x01\x00\x05\x01\x00\x09\x00\x00", b"\x05\x00\x05\x08"),
        (b"\x05\x01\x00\x05\x01\x01\x01\x7f\x00\x00\x01\x00\x50", b"\x05\x00\x05\x02"),
        (b"\x05\x01\x00\x04\x01\x00\x01\x7f\x00\x00\x01\x00\x50", b"\x05\x00\x05\x02"),
        (b"\x05\x01\x00\x05\x01\x00\x03\x00\x00\x50", b"\x05\x00\x05\x02"),
        (b"\x05\x01\x00\x05\x01\x00\x03\x0callowed.test\x00\x00", b"\x05\x00\x05\x02"),
        (b"\x05\x01\x00\x05\x01\x00\x03\x17allowed.test\x00.evil.test\x00\x50", b"\x05\x00\x05\x02"),
        (b"\x05\x01\x00\x05\x01\x00\x03\xff", b"\x05\x00\x05\x02"),
        (b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00", b"HTTP"),
    ],
)
async def test_socks_says_no_in_its_own_words(world: World, said: bytes, reply: bytes) -> None:
    client = await (await world.dial(world.gate(allow=("allowed.test",)))).say(said)
    client.writer.write_eof()
    assert (await client.done())[: len(reply)] == reply
    assert world.looked_up == []
    assert [told.decision for told in world.decided] == ["deny"]
