"""A real TLS client inside trusts what the session's authority signs, for that host and for no other."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl

import pytest

from sandbox.egress.authority import Authority
from sandbox.egress.peers import Guest
from sandbox.egress.tls import TlsGuest
from sandbox.protocol import Origin


class Piped:
    """A Connection over one end of a socket pair."""

    origin = Origin(None, None)

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        end.setblocking(False)

    async def receive(self) -> bytes:
        return await asyncio.get_running_loop().sock_recv(self._end, 65_536)

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._end, data)

    async def end(self) -> None:
        self._end.shutdown(socket.SHUT_WR)

    def abort(self) -> None:
        self._end.close()


async def _echo(authority: Authority, host: str, end: socket.socket) -> None:
    beneath = Piped(end)
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        plain = TlsGuest(Guest(beneath), authority.context(host))
        await plain.shake_hands()
        while data := await plain.receive():
            await plain.send(data)
        await plain.end()
    beneath.abort()


async def _client(
    authority: Authority, host: str, end: socket.socket
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    trust = ssl.create_default_context(cadata=authority.pem.decode())
    trust.set_alpn_protocols(["h2", "http/1.1"])
    return await asyncio.open_connection(sock=end, ssl=trust, server_hostname=host)


@pytest.mark.parametrize("host", ["api.test", "127.0.0.1", "::1", "a." * 60 + "long.test"])
async def test_a_client_that_trusts_the_authority_is_served(host: str) -> None:
    authority = Authority("t")
    ours, theirs = socket.socketpair()
    serving = asyncio.create_task(_echo(authority, host, ours))
    reader, writer = await _client(authority, host, theirs)
    assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
    payload = bytes(range(256)) * 4096
    writer.write(payload)
    assert await reader.readexactly(len(payload)) == payload
    writer.close()
    await serving


async def test_a_certificate_is_good_for_its_own_host_alone() -> None:
    authority = Authority("t")
    ours, theirs = socket.socketpair()
    serving = asyncio.create_task(_echo(authority, "api.test", ours))
    with pytest.raises(ssl.SSLCertVerificationError):
        await _client(authority, "other.test", theirs)
    await serving


async def test_another_sessions_authority_is_not_trusted() -> None:
    ours, theirs = socket.socketpair()
    serving = asyncio.create_task(_echo(Authority("one"), "api.test", ours))
    with pytest.raises(ssl.SSLCertVerificationError):
        await _client(Authority("two"), "api.test", theirs)
    await serving


async def test_bytes_that_are_no_tls_end_the_connection_only() -> None:
    authority = Authority("t")
    ours, theirs = socket.socketpair()
    theirs.sendall(b"GET / HTTP/1.1\r\n\r\n")
    beneath = Piped(ours)
    with pytest.raises(ssl.SSLError):
        await TlsGuest(Guest(beneath), authority.context("api.test")).shake_hands()
    ours.close()
    theirs.close()
