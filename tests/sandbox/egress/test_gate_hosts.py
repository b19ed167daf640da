"""Whom a program may reach: every spelling of a host and of an address, in every protocol of the gate."""

from __future__ import annotations

import ipaddress

import pytest
from gate_world import World, connect, get, socks

from sandbox.egress.resolve import NAMES_PER_MINUTE

LISTED = ("allowed.test", "*.wild.test")

SPELLINGS = [
    "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "127.0.1", "0", "0.0.0.0", "2852039166", "127.0.0.1",
    "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[fe80::1%eth0]", "[::1%25lo]",
    "127.0.0.1.", "169.254.169.254", "[fd00:ec2::254]", "100.100.100.200", "168.63.129.16", "169.254.170.2",
    "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "127.0.0.1.wild.test.1",
]  # fmt: skip
STRANGERS = [
    "evilallowed.test", "allowed.test.evil.test", "wild.test", "evilwild.test", "x.wild.test.evil.test",
    "xn--llowed-8ve.test", "localhost",
]  # fmt: skip
MALFORMED = [
    ".allowed.test", "allowed.test..", "allowed..test", "-allowed.test", "a" * 64 + ".wild.test",
    "a." * 130 + "wild.test",
]  # fmt: skip
UNREADABLE = [
    "\u0430llowed.test", "allowed.test%00.evil.test", "allowed.test\x00.evil.test",
    "allowed.test\t.evil.test",
    "allowed.test\r.evil.test", "allowed.test .evil.test", "allowed.test\\@evil.test",
    "allowed.test#@evil.test", "user@allowed.test", "al_lowed.test", "", "[allowed.test", "allowed.test]",
    "al*owed.test", "allowed.test,x",
]  # fmt: skip


def plain(host: str) -> bytes:
    return f"GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


@pytest.mark.parametrize("host", [*SPELLINGS, *STRANGERS, *MALFORMED, *UNREADABLE])
async def test_no_spelling_reaches_what_is_not_listed(world: World, host: str) -> None:
    gate = world.gate(allow=LISTED, addresses=("0.0.0.0/0", "::/0"))
    texts = (
        plain(host),
        f"CONNECT {host}:443 HTTP/1.1\r\n\r\n".encode(),
        f"CONNECT {host}:80 HTTP/1.1\r\n\r\n".encode(),
    )
    for text in texts:
        said = await (await (await world.dial(gate)).say(text)).done()
        assert said.split()[1] in (b"400", b"403"), text
        if host in UNREADABLE:
            assert said.split()[1] == b"400", text
    if 0 < len(host.encode()) < 256:
        said = await (await (await world.dial(gate)).say(socks(host.encode(), 80))).done()
        assert said[:4] == b"\x05\x00\x05\x02"
    assert world.looked_up == []
    assert {told.decision for told in world.decided} == {"deny"}
    assert all(told.attempt.host.isprintable() for told in world.decided)


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "fd00:ec2::254"]
)
async def test_an_address_in_socks_is_an_address(world: World, address: str) -> None:
    gate = world.gate(allow=LISTED)
    packed = ipaddress.ip_address(address).packed
    kind = b"\x01" if len(packed) == 4 else b"\x04"
    client = await world.dial(gate)
    await client.say(b"\x05\x01\x00\x05\x01\x00" + kind + packed + (80).to_bytes(2, "big"))
    assert (await client.done())[:4] == b"\x05\x00\x05\x02"


@pytest.mark.parametrize(
    "host", ["allowed.test", "ALLOWED.TEST", "allowed.test.", "x.wild.test", "a.b.wild.test"]
)
async def test_a_listed_host_is_reached_in_every_spelling_and_protocol(world: World, host: str) -> None:
    server = await world.serve()
    gate = world.gate(allow=LISTED, ports=(server.port,))
    authority = f"{host}:{server.port}"
    canonical = host.lower().removesuffix(".")
    inner = f"GET / HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n".encode()
    direct = await (await world.dial(gate)).say(get(f"http://{authority}/", "Connection: close"))
    assert b" 200 " in await direct.done()
    for opening in (connect(authority), socks(host.encode(), server.port)):
        client = await (await world.dial(gate)).say(opening + inner)
        assert b"HTTP/1.1 200 OK" in await client.done()
    assert set(world.looked_up) == {canonical}
    assert {told.attempt.host for told in world.decided} == {canonical}


@pytest.mark.parametrize(
    "port", ["22", "25", "6379", "0", "65536", "-1", "443abc", "443:22", "+443", "00443", "٤٤٣", "", "4 43"]
)
async def test_only_the_ports_of_the_list(world: World, port: str) -> None:
    gate = world.gate(allow=LISTED)
    for text in (f"CONNECT allowed.test:{port} HTTP/1.1\r\n\r\n".encode(), plain(f"allowed.test:{port}")):
        said = await (await (await world.dial(gate)).say(text)).done()
        if port == "" and text.startswith(b"GET"):
            continue  # `http://host:/` could mean port 80; it is refused as unclear below.
        assert said.split()[1] in (b"400", b"403"), text
    for text in (b"CONNECT allowed.test HTTP/1.1\r\n\r\n", b"CONNECT [::1]:443:80 HTTP/1.1\r\n\r\n"):
        assert (await (await (await world.dial(gate)).say(text)).done()).startswith(b"HTTP/1.1 400 ")
    assert world.looked_up == []


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"], ["10.0.0.1"], ["172.16.5.5"], ["192.168.1.1"], ["169.254.169.254"], ["100.64.0.1"],
        ["0.0.0.0"], ["224.0.0.1"], ["255.255.255.255"], ["168.63.129.16"], ["100.100.100.200"],
        ["::1"], ["::"], ["fe80::1"], ["fe80::1%eth0"], ["fc00::1"], ["fd00:ec2::254"], ["ff02::1"],
        ["::ffff:127.0.0.1"], ["::ffff:a9fe:a9fe"], ["::127.0.0.1"], ["64:ff9b::a00:1"], ["2002:a00:1::"],
        ["2001::1"], ["not an address"], ["93.184.216.34", "10.0.0.1"], ["10.0.0.1", "93.184.216.34"],
    ],
)  # fmt: skip
async def test_a_listed_name_leads_to_no_private_address(world: World, addresses: list[str]) -> None:
    world.names["allowed.test"] = addresses
    gate = world.gate(allow=LISTED, addresses=())
    client = await (await world.dial(gate)).say(get("http://allowed.test/"))
    said = await client.done()
    assert said.startswith(b"HTTP/1.1 403 ")
    assert b"blocked-private" in said
    assert [told.decision for told in world.decided] == ["deny"]


async def test_a_metadata_service_is_not_opened_by_a_network_that_holds_it(world: World) -> None:
    world.names["allowed.test"] = ["169.254.169.254"]
    gate = world.gate(allow=LISTED, addresses=("169.254.0.0/16", "0.0.0.0/0"))
    client = await (await world.dial(gate)).say(get("http://allowed.test/"))
    assert b"blocked-private" in await client.done()


async def test_a_name_is_resolved_once_and_what_was_checked_is_what_is_connected_to(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await world.serve()
    answers = iter([["127.0.0.1"], ["127.0.0.2"], ["169.254.169.254"]])

    async def rebinding(name: str) -> list[str]:
        world.looked_up.append(name)
        return next(answers)

    monkeypatch.setattr(world, "resolve", rebinding)
    gate = world.gate(allow=LISTED, ports=(server.port,), addresses=("127.0.0.1",))
    url = f"http://allowed.test:{server.port}/"
    client = await (await world.dial(gate)).say(get(url))
    assert b" 200 " in await client.head()
    assert world.looked_up == ["allowed.test"]
    assert world.decided[0].address == "127.0.0.1"
    for _ in range(2):
        client = await (await world.dial(gate)).say(get(url))
        assert b"blocked-private" in await client.done()
    assert server.connections == 1


async def test_a_listed_address_is_meant_even_where_it_is_private_and_no_wildcard_means_one(
    world: World,
) -> None:
    server = await world.serve()
    url = f"http://127.0.0.1:{server.port}/"
    named = world.gate(allow=(f"127.0.0.1:{server.port}",), addresses=())
    client = await (await world.dial(named)).say(get(url))
    assert b" 200 " in await client.head()
    mapped = await (await world.dial(named)).say(get(f"http://[::ffff:127.0.0.1]:{server.port}/"))
    assert (await mapped.done()).startswith(b"HTTP/1.1 403 ")
    assert world.looked_up == []


async def test_what_is_recorded_of_hostile_text_is_printable_and_bounded(
    world: World,
) -> None:
    gate = world.gate(allow=())
    texts = (
        b"GET http://evil.test/a?token=SECRET HTTP/1.1\r\nHost: evil.test\r\n\r\n",
        b'GET http://ev\xffil"}\x7f.test' + b"a" * 5000 + b"?SECRET HTTP/1.1\r\n\r\n",
        b"CONNECT evil.test%0a{}:443 HTTP/1.1\r\n\r\n",
        socks(b"evil\n\x1b[2J.test", 443),
    )
    for text in texts:
        await (await (await world.dial(gate, program="x\x1b[2J")).say(text)).done()
    assert len(world.decided) == len(texts)
    for told in world.decided:
        for shown in (told.attempt.host, told.attempt.path or "", told.reason, told.rule):
            assert shown.isascii()
            assert shown == "" or shown.isprintable()
            assert len(shown) <= 300
            assert "SECRET" not in shown


async def test_names_under_a_wildcard_are_no_channel_without_an_end(world: World) -> None:
    gate = world.gate(allow=LISTED)
    for number in range(NAMES_PER_MINUTE + 5):
        await (await (await world.dial(gate)).say(get(f"http://n{number}.wild.test/"))).done()
    assert len(world.looked_up) == NAMES_PER_MINUTE
    assert world.decided[-1].rule == "names"
