"""The forward proxy carries HTTP as it should, and no request but those that were decided."""

from __future__ import annotations

import asyncio
import re

import pytest
from gate_world import Respond, World, connect, get

from policies.schema import Limits, Network, Policy, RequestRule
from sandbox.egress import head as head_module
from sandbox.egress.peers import Upstream


def once(answer: bytes) -> Respond:
    """A server that says this and hangs up."""

    async def respond(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 " + answer)
        await writer.drain()
        writer.close()
        raise ConnectionError

    return respond


async def test_a_listed_host_is_reached_and_recorded_with_its_call_before_anything_is_sent(
    world: World,
) -> None:
    server = await world.serve()
    gate = world.gate(allow=(f"allowed.test:{server.port}",))
    client = await (await world.dial(gate)).say(get(f"http://allowed.test:{server.port}/p?secret=1"))
    assert (await client.head()).startswith(b"HTTP/1.1 200")
    assert await client.reader.readexactly(2) == b"ok"
    (told,) = world.decided
    assert (told.decision, told.address, told.attempt.path) == ("allow", "127.0.0.1", "/p")
    assert (told.attempt.origin.call_id, told.attempt.origin.program) == ("00000000000000c1", "prog")
    client.writer.close()
    await client.served
    assert world.closed[0].why == "done"
    assert world.closed[0].bytes_in > 0


async def test_what_cannot_be_recorded_does_not_happen(world: World) -> None:
    server = await world.serve()
    gate = world.gate(allow=(f"allowed.test:{server.port}",))

    async def broken(told: object) -> None:
        raise OSError("the disk is full")

    gate._report = broken
    client = await (await world.dial(gate)).say(get(f"http://allowed.test:{server.port}/"))
    assert await client.done() == b""
    assert server.connections == 0


async def test_every_request_of_a_kept_connection_is_decided_also_when_pipelined(world: World) -> None:
    server = await world.serve()
    gate = world.gate(allow=(f"allowed.test:{server.port}",))
    client = await world.dial(gate)
    await client.say(
        get(f"http://allowed.test:{server.port}/1")
        + get(f"http://allowed.test:{server.port}/2")
        + get(f"http://evil.test:{server.port}/3")
        + get(f"http://allowed.test:{server.port}/4")
    )
    said = await client.done()
    assert re.findall(rb"HTTP/1.1 (\d+)", said) == [b"200", b"200", b"403"]
    assert [head.split()[1] for head in server.heard] == [b"/1", b"/2"]
    assert server.connections == 1
    assert [told.decision for told in world.decided] == ["allow", "allow", "deny"]


async def test_a_refusal_says_which_rule_and_how_to_ask_and_nothing_of_what_was_sent(world: World) -> None:
    gate = world.gate(allow=("allowed.test",))
    client = await (await world.dial(gate)).say(get("http://evil.test/<script>", "X-Mine: <b>"))
    said = await client.done()
    assert said.startswith(b"HTTP/1.1 403 ")
    assert b"Rule: network.allow" in said
    assert b"sudo: network evil.test:80" in said
    assert b"<" not in said
    assert world.looked_up == []


async def test_an_empty_list_allows_nothing(world: World) -> None:
    for gate in (world.gate(allow=()), world.gate(Policy(name="bare"))):
        client = await (await world.dial(gate)).say(get("http://allowed.test/"))
        assert (await client.done()).startswith(b"HTTP/1.1 403 ")
    assert world.looked_up == []


@pytest.mark.parametrize(
    "request_text",
    [
        b"PUT http://H/ HTTP/1.1\r\nHost: H\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"PUT http://H/ HTTP/1.1\r\nHost: H\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: a\r\n\r\n",
        b"POST http://H/ HTTP/1.1\r\nHost: H\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        b"POST http://H/ HTTP/1.1\r\nHost: H\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"POST http://H/ HTTP/1.1\r\nHost: H\r\nTransfer-Encoding\x20: chunked\r\n\r\n0\r\n\r\n",
        b"POST http://H/ HTTP/1.0\r\nHost: H\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST http://H/ HTTP/1.1\r\nHost: H\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"POST http://H/ HTTP/1.1\r\nHost: H\r\nContent-Length: 3, 3\r\n\r\nabc",
        b"POST http://H/ HTTP/1.1\r\nHost: H\r\nContent-Length: +3\r\n\r\nabc",
        b"GET http://H/ HTTP/1.1\r\nHost: H\r\nHost: evil.test\r\n\r\n",
        b"GET http://H/ HTTP/1.1\r\nHost: evil.test\r\n\r\n",
        b"GET http://H/ HTTP/1.1\r\nHost: H, evil.test\r\n\r\n",
        b"GET http://H/ HTTP/1.1\r\n\r\n",
        b"GET http://H/ HTTP/1.1\nHost: H\n\n",
        b"GET http://H/ HTTP/1.1\r\nHost: H\nX: y\r\n\r\n",
        b"GET http://H/ HTTP/1.1\r\nHost: H\rX: y\r\n\r\n",
        b"GET http://H/ HTTP/1.1\r\nHost: H\r\nX: a\r\n b\r\n\r\n",
        b"GET http://H/ HTTP/1.1\r\n Host: H\r\n\r\n",
        b"GET http://H/ HTTP/1.1\r\nHost: H\r\nX: a\x00b\r\n\r\n",
        b"GET http://H/ HTTP/1.1\r\nHost: H\r\nNo colon\r\n\r\n",
        b"GET  http://H/ HTTP/1.1\r\nHost: H\r\n\r\n",
        b"GET http://H/ HTTP/2.0\r\nHost: H\r\n\r\n",
        b"GET http://H/\r\nHost: H\r\n\r\n",
        b"GET http://user@H/ HTTP/1.1\r\nHost: H\r\n\r\n",
        b"GET http://H\\@evil.test/ HTTP/1.1\r\nHost: H\r\n\r\n",
        b"GET http://H/#x HTTP/1.1\r\nHost: H\r\n\r\n",
        b"GET https://H/ HTTP/1.1\r\nHost: H\r\n\r\n",
        b"GET ftp://H/ HTTP/1.1\r\nHost: H\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: H\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: H\r\n\r\n",
        b"CONNECT H HTTP/1.1\r\nHost: H\r\nContent-Length: 3\r\n\r\nabc",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x00\x01\x02",
        b"\r\n\r\n",
    ],
)
async def test_what_has_two_readings_is_refused_and_nothing_of_it_is_sent(
    world: World, request_text: bytes
) -> None:
    server = await world.serve()
    gate = world.gate(allow=(f"allowed.test:{server.port}",))
    client = await world.dial(gate)
    await client.say(_fill(request_text, server.port))
    assert (await client.done()).startswith(b"HTTP/1.1 400 ")
    assert server.heard == []
    assert [told.decision for told in world.decided] == ["deny"]


def _fill(text: bytes, port: int) -> bytes:
    return re.sub(rb"\bH\b(?!TTP|ost)", b"allowed.test:%d" % port, text)


async def test_chunk_extensions_and_trailers_do_not_reach_the_other_side(world: World) -> None:
    async def respond(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.heard.append(await reader.readuntil(b"0\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n")

    server = await world.serve(respond)
    gate = world.gate(allow=(f"allowed.test:{server.port}",))
    client = await world.dial(gate)
    await client.say(
        get(f"http://allowed.test:{server.port}/", "Transfer-Encoding: chunked", method="POST")
        + b"5;ext=1\r\nhello\r\n0\r\nEvil: 1\r\n\r\n"
        + get(f"http://evil.test:{server.port}/")
    )
    said = await client.done()
    assert server.heard[1] == b"5\r\nhello\r\n0\r\n\r\n"
    assert b"3\r\nabc\r\n0\r\n\r\n" in said
    assert b"HTTP/1.1 403" in said


async def test_headers_of_one_hop_end_here_and_the_host_is_the_one_decided(world: World) -> None:
    server = await world.serve()
    gate = world.gate(allow=(f"allowed.test:{server.port}",))
    client = await world.dial(gate)
    await client.say(
        get(
            f"http://ALLOWED.test.:{server.port}/",
            "Connection: close, Host, X-Private, Content-Length",
            "Proxy-Authorization: Basic c2VjcmV0",
            "Proxy-Connection: Keep-Alive",
            "Keep-Alive: timeout=5",
            "TE: trailers",
            "Upgrade: h2c",
            "HTTP2-Settings: AAMAAABk",
            "X-Private: 1",
            "X-Public: 2",
        )
    )
    assert b"200 OK" in await client.done()
    (head,) = server.heard
    assert f"host: allowed.test:{server.port}\r\n".encode() in head.lower()
    assert b"x-public: 2" in head.lower()
    for gone in (b"proxy-", b"keep-alive", b"te:", b"upgrade", b"http2", b"x-private"):
        assert gone not in head.lower()


async def test_a_websocket_over_plain_http_is_carried_both_ways(world: World) -> None:
    async def respond(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello"
        )
        while data := await reader.read(100):
            writer.write(data.upper())
            await writer.drain()
        writer.close()

    server = await world.serve(respond)
    gate = world.gate(allow=(f"allowed.test:{server.port}",))
    client = await world.dial(gate)
    upgrade = ("Connection: keep-alive, Upgrade", "Upgrade: WebSocket", "Sec-WebSocket-Key: a")
    await client.say(get(f"http://allowed.test:{server.port}/", *upgrade))
    assert b" 101 " in await client.head()
    assert await client.reader.readexactly(5) == b"hello"
    await client.say(b"abc")
    assert await client.reader.readexactly(3) == b"ABC"
    client.writer.write_eof()
    assert await client.done() == b""
    assert b"Upgrade: websocket" in server.heard[0]


async def test_a_program_that_waits_for_100_continue_gets_it_from_the_other_side(world: World) -> None:
    async def respond(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert await reader.readexactly(5) == b"hello"
        writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")

    server = await world.serve(respond)
    gate = world.gate(allow=(f"allowed.test:{server.port}",))
    client = await world.dial(gate)
    url = f"http://allowed.test:{server.port}/"
    await client.say(get(url, "Expect: 100-continue", "Content-Length: 5", method="PUT"))
    assert b" 100 " in await client.head()
    await client.say(b"hello")
    assert b" 201 " in await client.head()


async def test_responses_without_a_body_leave_the_connection_usable(world: World) -> None:
    async def respond(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if head.startswith(b"HEAD"):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        else:
            writer.write(b"HTTP/1.1 %s Fine\r\n\r\n" % head.split()[1][1:])

    server = await world.serve(respond)
    gate = world.gate(allow=(f"allowed.test:{server.port}",))
    client = await world.dial(gate)
    url = f"http://allowed.test:{server.port}"
    for method, path, status in (("HEAD", "/", b"200"), ("GET", "/204", b"204"), ("GET", "/304", b"304")):
        await client.say(get(url + path, method=method))
        assert (await client.head()).split()[1] == status
    assert server.connections == 1


async def test_a_response_that_ends_with_its_connection_is_whole_and_one_cut_short_does_not_look_whole(
    world: World,
) -> None:
    async def respond(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = b"Content-Length: 10\r\n" if b"/cut" in head else b""
        writer.write(b"HTTP/1.1 200 OK\r\n" + length + b"\r\nhello")
        await writer.drain()
        writer.close()
        raise ConnectionError

    server = await world.serve(respond)
    gate = world.gate(allow=(f"allowed.test:{server.port}",))
    whole = await (await world.dial(gate)).say(
        get(f"http://allowed.test:{server.port}/", "Connection: close")
    )
    assert (await whole.done()).endswith(b"5\r\nhello\r\n0\r\n\r\n")
    cut = await (await world.dial(gate)).say(get(f"http://allowed.test:{server.port}/cut"))
    said = await cut.done()
    assert b"Content-Length: 10" in said
    assert said.endswith(b"hello")


async def test_an_answer_before_the_whole_question_reaches_the_program(world: World) -> None:
    server = await world.serve(once(b"413 Too much\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno"))
    gate = world.gate(allow=(f"allowed.test:{server.port}",))
    client = await world.dial(gate)
    url = f"http://allowed.test:{server.port}/"
    await client.say(get(url, "Content-Length: 1000000", method="POST") + b"x" * 1000)
    assert b" 413 " in await client.head()
    assert await client.reader.readexactly(2) == b"no"


@pytest.mark.parametrize(
    "junk", [b"\x00\x01", b"SSH-2.0-x\r\n", b"HTTP/1.1 99 x\r\n\r\n", b"HTTP/1.1 101 x\r\n\r\n", b""]
)
async def test_a_server_that_does_not_speak_http_is_a_bad_gateway(world: World, junk: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(junk)
        await writer.drain()

    server = await world.listen(talk)
    gate = world.gate(allow=(f"allowed.test:{server.port}",))
    client = await (await world.dial(gate)).say(get(f"http://allowed.test:{server.port}/"))
    assert (await client.done()).startswith(b"HTTP/1.1 502 ")


async def test_a_request_whose_answer_is_there_at_once_is_followed_by_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def respond(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    server = await world.serve(respond)
    gate = world.gate(allow=(f"allowed.test:{server.port}",))
    send = Upstream.send

    async def send_and_wait(self: Upstream, data: bytes) -> None:
        await send(self, data)
        await asyncio.sleep(0.02)

    monkeypatch.setattr(Upstream, "send", send_and_wait)
    client = await world.dial(gate)
    for number in range(3):
        await client.say(get(f"http://allowed.test:{server.port}/{number}"))
        assert b" 200 " in await client.head()
    assert server.connections == 1


async def test_a_stale_connection_is_not_used_again(world: World) -> None:
    server = await world.serve(once(b"200 OK\r\nContent-Length: 0\r\n\r\n"))
    gate = world.gate(allow=(f"allowed.test:{server.port}",))
    client = await world.dial(gate)
    for _ in range(3):
        await client.say(get(f"http://allowed.test:{server.port}/"))
        assert b" 200 " in await client.head()
        await asyncio.sleep(0.02)
    assert server.connections == 3


async def test_nobody_there_is_a_bad_gateway_and_an_unknown_name_too(world: World) -> None:
    gate = world.gate(allow=("allowed.test:1", "unknown.test"))
    for url in ("http://allowed.test:1/", "http://unknown.test/"):
        client = await (await world.dial(gate)).say(get(url))
        assert (await client.done()).startswith(b"HTTP/1.1 502 ")


async def test_a_head_over_64_kib_is_refused_however_it_comes(world: World) -> None:
    gate = world.gate(allow=("allowed.test",))
    client = await world.dial(gate)
    await client.say(get("http://allowed.test/", "X: " + "a" * 70_000))
    assert (await client.done()).startswith(b"HTTP/1.1 431 ")
    client = await world.dial(gate)
    sending = asyncio.ensure_future(
        client.say(b"GET http://allowed.test/ HTTP/1.1\r\nX: " + b"a" * (100 << 20))
    )
    assert (await client.rest()).startswith(b"HTTP/1.1 431 ")
    client.writer.transport.abort()
    await sending


async def test_a_head_that_trickles_in_is_given_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_module, "HEAD_S", 0.2)
    client = await world.dial(world.gate(allow=("allowed.test",)))

    async def trickle() -> None:
        for byte in b"GET http://allowed.test/ HTTP/1.1\r\n" + b"a" * 1000:
            await client.say(bytes([byte]))
            await asyncio.sleep(0.02)

    trickling = asyncio.ensure_future(trickle())
    assert (await client.rest()).startswith(b"HTTP/1.1 408 ")
    trickling.cancel()


async def test_rules_on_requests_see_one_form_of_a_path_and_that_is_what_is_sent(world: World) -> None:
    server = await world.serve()
    rule = RequestRule(host="allowed.test", methods=("GET",), paths=("/public/**",), reason="Read only.")
    network = Network(allow=(f"allowed.test:{server.port}",), addresses=("127.0.0.0/8",), requests=(rule,))
    gate = world.gate(Policy(name="limited", network=network, limits=Limits()))
    url = f"http://allowed.test:{server.port}"
    for path in ("/public/%61?q=%2e", "//public/x/../b"):
        client = await (await world.dial(gate)).say(get(url + path, "Connection: close"))
        assert (await client.done()).startswith(b"HTTP/1.1 200 ")
    assert [head.split()[1] for head in server.heard] == [b"/public/a?q=%2e", b"/public/b"]
    server.heard.clear()
    refused = [
        get(url + "/private"),
        get(url + "/public/../private"),
        get(url + "/public/%2e%2e/private"),
        get(url + "/public/..%2fprivate"),
        get(url + "/public/..%5cprivate"),
        get(url + "/public/%252e%252e/private"),
        get(url + "/public/x;/../../private"),
        get(url + "/public/%00"),
        get(url + "/public/a", method="POST"),
        get(url + "/public/a", method="get"),
        get(url + "/public/a", "X-HTTP-Method-Override: DELETE"),
    ]
    for text in refused:
        client = await (await world.dial(gate)).say(text)
        assert (await client.done()).startswith(b"HTTP/1.1 403 "), text
    client = await (await world.dial(gate)).say(connect(f"allowed.test:{server.port}"))
    assert (await client.done()).startswith(b"HTTP/1.1 403 ")
    assert server.heard == []
