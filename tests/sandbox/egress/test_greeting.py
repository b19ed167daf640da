"""A host may ask for a second ClientHello and go by that: it names the same host, or it does not go out."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from gate_world import Client, World, client_hello, connect, server_hello

from sandbox.egress import tunnel
from sandbox.egress.authority import Authority
from sandbox.egress.hello import NotTls, asks_again

HELLO = client_hello("allowed.test")
EVIL = client_hello("evil.test")
AGAIN = server_hello(hashlib.sha256(b"HelloRetryRequest").digest())
CIPHERS = b"\x14\x03\x03\x00\x01\x01"
EARLY = b"\x17\x03\x03\x00\x05early"
ALERT = b"\x15\x03\x03\x00\x02\x01\x70"


class Front:
    """A server for many names, which answers the first words with `answer` and keeps all it is told."""

    def __init__(self, answer: bytes) -> None:
        self.answer, self.heard = answer, bytearray()

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heard += await reader.read(65_536)
        writer.write(self.answer)
        await writer.drain()
        while data := await reader.read(65_536):
            self.heard += data
            writer.write(b"heard")
            await writer.drain()


@pytest.fixture(params=["443", "named port", "listed port"])
def dialled(
    world: World, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Callable[[Front], object]:
    """A program in a tunnel to `allowed.test`, on each kind of port."""

    async def dial(front: Front) -> Client:
        server = await world.listen(front.talk)
        if request.param == "443":
            monkeypatch.setattr(tunnel, "HTTPS", server.port)
        entry = "allowed.test" if request.param == "listed port" else f"allowed.test:{server.port}"
        gate = world.gate(allow=(entry,), ports=(server.port,))
        client = await world.dial(gate)
        await client.say(connect(f"allowed.test:{server.port}"))
        assert b" 200 " in await client.head()
        return client

    return dial


async def test_a_second_one_that_names_the_same_host_goes_through(dialled) -> None:
    front = Front(AGAIN)
    client = await dialled(front)
    await client.say(HELLO)
    assert await client.reader.readexactly(len(AGAIN)) == AGAIN
    await client.say(CIPHERS + HELLO + b"and on")
    assert await client.reader.readexactly(5) == b"heard"
    client.writer.write_eof()
    await client.done()
    assert front.heard == HELLO + CIPHERS + HELLO + b"and on"


@pytest.mark.parametrize(
    "second",
    [
        EVIL,
        CIPHERS + EVIL,
        EARLY * 3 + CIPHERS + ALERT + EVIL,
        client_hello(None),
        client_hello("allowed.test.evil.test"),
        EVIL[:3] + b"\x00\x10" + EVIL[5:21] + EVIL[:3] + (len(EVIL) - 21).to_bytes(2, "big") + EVIL[21:],
        b"\x16\x03\x03\x00\x04\x14\x00\x00\x00" + EVIL,
        b"\x18\x03\x03\x00\x01\x01" + EVIL,
        b"\x17\x03\x03\xff\xff" + bytes(70_000) + EVIL,
        b"\x80\x2e\x01\x03\x01" + EVIL,
        EVIL[:40],
    ],
    ids=lambda second: f"{len(second)} bytes",  # they differ from run to run
)
@pytest.mark.parametrize("at_once", [False, True])
async def test_a_second_one_that_does_not_is_never_sent(
    world: World, dialled, second: bytes, at_once: bool
) -> None:
    front = Front(AGAIN)
    client = await dialled(front)
    await client.say(HELLO + (second if at_once else b""))
    with contextlib.suppress(asyncio.IncompleteReadError):
        await client.reader.readexactly(len(AGAIN))
    await client.say(b"" if at_once else second)
    with contextlib.suppress(OSError):
        client.writer.write_eof()
    await client.done()
    beside = bytes(front.heard).removeprefix(HELLO)
    assert front.heard.startswith(HELLO)
    assert beside in (b"", CIPHERS, EARLY * 3 + CIPHERS + ALERT)
    assert world.decided[-1].rule == "tls"


@pytest.mark.parametrize(
    ("answer", "free"),
    [
        (server_hello(), True),
        (ALERT + server_hello(), True),
        (b"".join(b"\x16\x03\x03\x00\x01" + bytes([byte]) for byte in server_hello()[5:47]), True),
        (b"HTTP/1.1 400 this is plain\r\n\r\n", False),
        (b"\x16\x03\x03\x00\x04\x0b\x00\x00\x00", False),
        (b"\x15\x03\x03\x00\x03\x02\x28\x00", False),
        (HELLO, False),
    ],
)
async def test_what_follows_goes_out_only_behind_a_serverhello(dialled, answer: bytes, free: bool) -> None:
    front = Front(answer)
    client = await dialled(front)
    await client.say(HELLO + EVIL)
    assert (await client.reader.readexactly(len(answer))) == answer
    client.writer.write_eof()
    await client.done()
    assert front.heard == (HELLO + EVIL if free else HELLO)


async def test_a_host_that_hangs_up_is_told_nothing_more(dialled) -> None:
    front = Front(ALERT)

    async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        front.heard += await reader.read(65_536)
        writer.write(ALERT)
        writer.write_eof()
        front.heard += await reader.read()

    front.talk = leave  # type: ignore[method-assign]
    client = await dialled(front)
    await client.say(HELLO + EVIL)
    assert await client.rest() == ALERT
    await client.done()
    assert front.heard == HELLO


async def test_a_program_that_hangs_up_on_a_silent_host_gives_its_place_back(dialled) -> None:
    front = Front(b"")
    client = await dialled(front)
    await client.say(HELLO + EVIL)
    while not front.heard:
        await asyncio.sleep(0.01)
    client.writer.close()
    async with asyncio.timeout(30):
        await client.served
    assert front.heard == HELLO


@pytest.mark.parametrize("size", [0, 4, 6, 10, 42])
def test_an_answer_is_not_judged_before_it_is_there(size: int) -> None:
    assert asks_again(AGAIN[:size]) is None
    assert asks_again(AGAIN[:43]) is True
    assert asks_again(server_hello()[:43]) is False


@pytest.mark.parametrize(
    "answer",
    [b"220 mail", b"\x16\x03\x03\x00\x00", b"\x16\x03\x03\x00\x0f" + AGAIN[5:20] + ALERT, ALERT * 65],
)
def test_any_other_answer_is_none(answer: bytes) -> None:
    with pytest.raises(NotTls):
        asks_again(answer)


async def test_a_real_client_and_a_real_server_that_agree_on_a_second_try(
    world: World, tmp_path: Path
) -> None:
    """The server takes a curve that the client offers without a share for it."""
    authority = Authority("internet")
    context = authority.context("allowed.test")
    context.set_ecdh_curve("secp384r1")
    said = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_side=True)
        step: Callable[[], object] = tls.do_handshake
        while True:
            try:
                got = step()
            except ssl.SSLWantReadError:
                got = None
            else:
                if isinstance(got, bytes):
                    tls.write(got.upper())
                step = lambda: tls.read(100)  # noqa: E731
            out = outgoing.read()
            said.extend(out)
            writer.write(out)
            if got is None and not out:
                if not (data := await reader.read(65_536)):
                    return
                incoming.write(data)

    server = await world.listen(serve)
    gate = world.gate(allow=("allowed.test",), ports=(server.port,))
    client = await world.dial(gate)
    await client.say(connect(f"allowed.test:{server.port}"))
    assert b" 200 " in await client.head()
    await client.writer.start_tls(
        ssl.create_default_context(cadata=authority.pem.decode()), server_hostname="allowed.test"
    )
    await client.say(b"through")
    assert await client.reader.readexactly(7) == b"THROUGH"
    assert asks_again(bytes(said)) is True
