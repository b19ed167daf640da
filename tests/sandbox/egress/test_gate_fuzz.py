"""Whatever a program says to the gate: nobody but the listed host hears of it, and the gate goes on."""

from __future__ import annotations

import asyncio
import re

from gate_world import connect, get, new_world, socks
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

PORT = 18_080
"""Stands in the texts for the server's own."""
VALID = [
    get(f"http://allowed.test:{PORT}/a", "Connection: close"),
    get(f"http://allowed.test:{PORT}/a", "Transfer-Encoding: chunked", method="POST")
    + b"1\r\na\r\n0\r\n\r\n",
    get(f"http://allowed.test:{PORT}/a", "Content-Length: 3", method="PUT")
    + b"abc"
    + get("http://evil.test/"),
    connect(f"allowed.test:{PORT}") + b"GET / HTTP/1.1\r\nHost: allowed.test:18080\r\n\r\n",
    socks(b"allowed.test", PORT) + b"GET / HTTP/1.1\r\nHost: allowed.test:18080\r\n\r\n",
]
PIECES = st.sampled_from(
    [b"\r\n", b"\n", b"\0", b" ", b":", b"evil.test", b"Host: evil.test\r\n", b"\x05", b"@", b"%00",
     b"//", b".",
     b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"GET http://evil.test/ HTTP/1.1\r\n\r\n"]
) | st.binary(max_size=4)  # fmt: skip
SAID = st.tuples(
    st.sampled_from(VALID), st.lists(st.tuples(st.integers(0, 200), st.integers(0, 3), PIECES), max_size=4)
)


def mutated(text: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    for at, gone, piece in changes:
        at %= len(text) + 1
        text = text[:at] + piece + text[at + gone :]
    return text


async def once(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One request a connection: what follows is its body, and no head."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
    await writer.drain()
    writer.write_eof()
    await reader.read()
    raise ConnectionError


async def attempt(said: bytes) -> None:
    async with new_world() as world:
        server, evil = await world.serve(once), await world.serve(once)
        world.names["evil.test"] = ["127.0.0.1"]
        gate = world.gate(allow=("allowed.test",), ports=(server.port, evil.port, 80))
        client = await world.dial(gate)
        await client.say(re.sub(rb"18080", b"%d" % server.port, said))
        client.writer.write_eof()
        async with asyncio.timeout(20):
            await client.done()
        assert evil.heard == []
        assert set(world.looked_up) <= {"allowed.test"}
        for head in server.heard:
            assert f"\r\nhost: allowed.test:{server.port}\r\n".encode() in head.lower()
            assert b"evil.test\r" not in head.lower().partition(b"\r\nhost: ")[2].partition(b"\n")[0]
        again = await (await world.dial(gate)).say(
            get(f"http://allowed.test:{server.port}/", "Connection: close")
        )
        assert b" 200 " in await again.done()


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(SAID)
def test_no_change_to_a_request_reaches_somebody_else(
    said: tuple[bytes, list[tuple[int, int, bytes]]],
) -> None:
    asyncio.run(attempt(mutated(*said)))


@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=200) | st.binary(max_size=100).map(lambda data: b"\x05\x01\x00\x05\x01\x00" + data))
def test_any_bytes_end_in_an_end(said: bytes) -> None:
    asyncio.run(attempt(said))
