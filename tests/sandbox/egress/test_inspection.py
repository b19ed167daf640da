"""TLS that is looked into: rules on requests hold, a secret reaches its host alone, an echo is masked."""

from __future__ import annotations

import asyncio
import base64
import gzip
import ssl
from dataclasses import dataclass
from pathlib import Path

import pytest
from gate_world import LOOPBACK, Client, Respond, Server, World

from policies.schema import Network, Policy, RequestRule, Secret, Secrets
from sandbox.egress import Gate
from sandbox.egress.authority import Authority
from sandbox.egress.inspection import Inspection

VALUE = "tok_live_0123456789abcdefghij"


@dataclass
class Bank:
    """A host that has a certificate, and a gate that may go there with a secret."""

    world: World
    gate: Gate
    server: Server
    other: Server

    async def open(self, host: str = "api.test", sni: str | None = None) -> Client:
        """A program inside that trusts the session's bundle, through a CONNECT."""
        port = self.server.port if host == "api.test" else self.other.port
        client = await self.world.dial(self.gate)
        await client.say(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        assert b" 200 " in await client.head()
        [bundle] = self.gate.files.values()
        trust = ssl.create_default_context(cadata=bundle.decode())
        await client.writer.start_tls(trust, server_hostname=sni or host)
        return client

    @property
    def sentinel(self) -> str:
        return self.gate.environment["TOKEN"]


async def echo(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Says all it heard: plain, in base64, in a header; chunked, cut inside the secret."""
    body = head + base64.b64encode(head)
    at = body.find(VALUE.encode()) + 9
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Token: " + VALUE.encode() + b"\r\n\r\n")
    for piece in (body[:at], body[at:]):
        writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        await writer.drain()
        await asyncio.sleep(0.02)
    writer.write(b"0\r\n\r\n")


async def bank(
    world: World, tmp_path: Path, respond: Respond = echo, *, secret: Secret | None = None, **network: object
) -> Bank:
    authority = Authority("internet")
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    world.names = {"api.test": ["127.0.0.1"], "other.test": ["127.0.0.1"], "liar.test": ["127.0.0.1"]}
    server = await world.serve(respond, authority.context("api.test"))
    other = await world.serve(respond, authority.context("other.test"))
    policy = Policy(
        name="test",
        network=Network(
            allow=(f"api.test:{server.port}", f"other.test:{other.port}", f"liar.test:{other.port}"),
            addresses=LOOPBACK, intercept=True, ca_file=str(tmp_path / "ca.pem"), **network,
        ),
        secrets=Secrets(bound=(secret or Secret(name="TOKEN", host="*.test"),)),
    )  # fmt: skip
    inspection = Inspection(policy, {"TOKEN": VALUE})
    gate = Gate(policy, ask=world.ask, report=world.report, resolver=world.resolve, inspection=inspection)
    return Bank(world, gate, server, other)


def request(host: str, token: str, method: str = "GET", path: str = "/v1/me?q=1") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n".encode()


async def test_the_host_gets_the_value_and_the_program_gets_its_sentinel_back(world: World, tmp_path: Path):
    bound = await bank(world, tmp_path, secret=Secret(name="TOKEN", host="api.test"))
    client = await bound.open()
    await client.say(request(f"api.test:{bound.server.port}", bound.sentinel))
    head = await client.head()
    body = await client.reader.readuntil(b"0\r\n\r\n")
    assert f"Authorization: Bearer {VALUE}".encode() in bound.server.heard[0]
    assert VALUE.encode() not in head + body
    assert bound.sentinel.encode() in head
    assert bound.sentinel.encode() in body
    decoded = base64.b64decode(max(body.split(b"\r\n"), key=len)[-40:] + b"==", validate=False)
    assert VALUE.encode() not in decoded


async def test_several_requests_use_one_connection_to_the_host(world: World, tmp_path: Path):
    bound = await bank(world, tmp_path)
    client = await bound.open()
    for _ in range(3):
        await client.say(request(f"api.test:{bound.server.port}", bound.sentinel))
        assert b" 200 " in await client.head()
        await client.reader.readuntil(b"0\r\n\r\n")
    assert len(bound.server.heard) == 3
    assert bound.server.connections == 1
    shown = [told for told in world.decided if told.attempt.protocol == "https"]
    assert [(told.attempt.method, told.attempt.path) for told in shown] == [("GET", "/v1/me")] * 3


async def test_another_host_gets_the_sentinel(world: World, tmp_path: Path):
    """As after a redirect: the client sends its header on, and it is worth nothing there."""
    bound = await bank(
        world, tmp_path, secret=Secret(name="TOKEN", host="api.test"),
        requests=(RequestRule(host="other.test", reason="read"),),
    )  # fmt: skip
    client = await bound.open("other.test")
    await client.say(request(f"other.test:{bound.other.port}", bound.sentinel))
    await client.head()
    assert bound.sentinel.encode() in bound.other.heard[0]
    assert VALUE.encode() not in bound.other.heard[0]


@pytest.mark.parametrize("place", ["path", "body", "other header"])
async def test_nothing_but_its_own_header_gets_the_value(world: World, tmp_path: Path, place: str):
    bound = await bank(world, tmp_path)
    host, sentinel = f"api.test:{bound.server.port}", bound.sentinel
    said = {
        "path": f"GET /{sentinel} HTTP/1.1\r\nHost: {host}\r\n\r\n",
        "body": f"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(sentinel)}\r\n\r\n{sentinel}",
        "other header": f"GET / HTTP/1.1\r\nHost: {host}\r\nX-Api-Key: {sentinel}\r\n\r\n",
    }[place]
    client = await bound.open()
    await client.say(said.encode())
    await client.head()
    assert bound.server.heard
    assert VALUE.encode() not in b"".join(bound.server.heard)


async def test_a_secret_that_needs_approval_is_held_until_it_has_it(world: World, tmp_path: Path):
    bound = await bank(world, tmp_path, secret=Secret(name="TOKEN", host="*.test", ask=True))
    client = await bound.open()
    await client.say(request(f"api.test:{bound.server.port}", bound.sentinel))
    refusal = await client.done()
    assert refusal.startswith(b"HTTP/1.1 403 ")
    assert b"sudo" in refusal
    assert bound.server.heard == []
    bound.gate.release_secret("TOKEN")
    client = await bound.open()
    await client.say(request(f"api.test:{bound.server.port}", bound.sentinel))
    await client.head()
    assert VALUE.encode() in bound.server.heard[0]


async def test_a_reply_that_cannot_be_read_is_not_passed_on(world: World, tmp_path: Path):
    async def compressed(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = gzip.compress(VALUE.encode())
        writer.write(
            f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )

    bound = await bank(world, tmp_path, compressed)
    client = await bound.open()
    asked = request(f"api.test:{bound.server.port}", bound.sentinel)
    await client.say(asked[:-2] + b"Accept-Encoding: gzip, br\r\nRange: bytes=5-9\r\n\r\n")
    assert (await client.done()).startswith(b"HTTP/1.1 502 ")
    assert b"gzip" not in bound.server.heard[0]
    assert b"Range" not in bound.server.heard[0]


async def test_rules_on_requests_hold_inside_tls(world: World, tmp_path: Path):  # N17, N18
    rule = RequestRule(host="api.test", methods=("GET",), paths=("/v1/**",), reason="read only")
    bound = await bank(world, tmp_path, requests=(rule,))
    host = f"api.test:{bound.server.port}"
    for method, path in [
        ("POST", "/v1/x"), ("get", "/v1/x"), ("GET", "/v2/x"), ("GET", "/v1/../v2/x"),
        ("GET", "/v1/%2e%2e/v2"), ("GET", "//v2/x"), ("DELETE", "/v1/x"),
    ]:  # fmt: skip
        client = await bound.open()
        await client.say(request(host, "x", method, path))
        assert (await client.done()).split(b" ")[1] in (b"403", b"400"), (method, path)
    client = await bound.open()
    override = request(host, "x")[:-2] + b"X-HTTP-Method-Override: DELETE\r\n\r\n"
    await client.say(override)
    assert b" 403 " in await client.done()
    assert bound.server.heard == []
    client = await bound.open()
    await client.say(request(host, "x"))
    assert b" 200 " in await client.head()


async def test_another_host_named_inside_the_tunnel_is_refused(world: World, tmp_path: Path):  # N12
    bound = await bank(world, tmp_path)
    for host in ("evil.test", f"other.test:{bound.other.port}", f"api.test:{bound.other.port}"):
        client = await bound.open()
        await client.say(request(host, bound.sentinel))
        assert b"HTTP/1.1 4" in (await client.done())[:10]
    assert bound.server.heard == []
    assert bound.other.heard == []


async def test_a_host_that_cannot_prove_its_name_gets_nothing(world: World, tmp_path: Path):
    bound = await bank(world, tmp_path)
    client = await bound.open("liar.test")
    await client.say(request(f"liar.test:{bound.other.port}", bound.sentinel))
    refusal = await client.done()
    assert refusal.startswith(b"HTTP/1.1 502 ")
    assert b"certificate" in refusal
    assert bound.other.heard == []


async def test_another_name_in_the_clienthello_is_refused(world: World, tmp_path: Path):  # N11
    bound = await bank(world, tmp_path)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await bound.open("api.test", sni="other.test")
    assert bound.server.heard == []


async def test_bytes_that_are_no_tls_reach_nobody(world: World, tmp_path: Path):
    bound = await bank(world, tmp_path)
    client = await world.dial(bound.gate)
    await client.say(f"CONNECT api.test:{bound.server.port} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await client.say(b"\x16\x03\x01 no hello at all, but long enough to be read as one \r\n\r\n" * 20)
    await client.done()
    assert bound.server.heard == []
