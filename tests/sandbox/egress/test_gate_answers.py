"""Questions, grants and their end: what the user allows is one host and port, for whom he allowed it."""

from __future__ import annotations

import asyncio

import pytest
from gate_world import Client, World, get

from policies.schema import Network, Policy, Rule, Sudo, When
from sandbox.egress import Attempt, Gate
from sandbox.egress import questions as questions_module

FIRST, SECOND = "00000000000000c1", "00000000000000c2"


async def status(world: World, gate: Gate, url: str, call: str | None = FIRST) -> int:
    client = await (await world.dial(gate, call)).say(get(url, "Connection: close"))
    return int((await client.done()).split()[1])


async def test_a_connection_waits_for_a_yes_which_is_for_that_command_host_and_port(world: World) -> None:
    server, other = await world.serve(), await world.serve()
    world.names["evil.test"] = ["127.0.0.1"]
    gate = world.gate(ask=True)
    asked, say = asyncio.Event(), asyncio.Event()

    async def answer(attempt: Attempt) -> bool:
        asked.set()
        await say.wait()
        return (attempt.host, attempt.port, attempt.origin.call_id) == ("allowed.test", server.port, FIRST)

    world.answer = answer
    url = f"http://allowed.test:{server.port}/"
    waiting = asyncio.ensure_future(status(world, gate, url))
    await asked.wait()
    assert (server.connections, world.looked_up, world.told) == (0, [], [])
    say.set()
    assert await waiting == 200
    assert await status(world, gate, url) == 200
    assert len(world.asked) == 1
    assert await status(world, gate, f"http://evil.test:{server.port}/") == 403
    assert await status(world, gate, f"http://allowed.test:{other.port}/") == 403
    assert await status(world, gate, url, SECOND) == 403
    assert await status(world, gate, url, None) == 403
    assert [attempt.host for attempt in world.asked] == ["allowed.test", "evil.test"] + ["allowed.test"] * 3
    assert world.decided[0].reason == "The user allowed it."


async def test_connections_of_a_command_to_one_place_share_a_question_and_those_of_others_do_not(
    world: World,
) -> None:
    server = await world.serve()
    gate = world.gate(ask=True)
    say = asyncio.Event()

    async def answer(attempt: Attempt) -> bool:
        await say.wait()
        return attempt.origin.call_id == FIRST

    world.answer = answer
    url = f"http://allowed.test:{server.port}/"
    of_one = [asyncio.ensure_future(status(world, gate, url)) for _ in range(3)]
    of_another = asyncio.ensure_future(status(world, gate, url, SECOND))
    while len(world.asked) < 2:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    say.set()
    assert await asyncio.gather(*of_one, of_another) == [200, 200, 200, 403]
    assert len(world.asked) == 2


async def test_whatever_is_not_a_yes_is_a_no_and_is_not_asked_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(questions_module, "LATE_S", 0.0)

    async def fails(attempt: Attempt) -> bool:
        raise RuntimeError("the terminal is gone")

    async def never(attempt: Attempt) -> bool:
        await asyncio.Event().wait()
        return True

    async def truthy(attempt: Attempt) -> bool:
        return "yes"  # type: ignore[return-value]

    reasons = []
    for answer in (None, fails, never, truthy):
        world.answer = answer
        network = Network(ask=True, addresses=("127.0.0.0/8",))
        gate = world.gate(Policy(name="asks", network=network, sudo=Sudo(timeout_s=0.1)))
        before = len(world.asked)
        for _ in range(2):
            assert await status(world, gate, "http://allowed.test/") == 403
        assert len(world.asked) == before + 1
        reasons.append(world.decided[-1].reason)
    assert len(set(reasons)) == 3
    assert "did not answer" in reasons[2]
    assert world.looked_up == []


async def test_a_question_ends_with_the_program_that_waits(world: World) -> None:
    gate = world.gate(ask=True)
    ended = asyncio.Event()

    async def answer(attempt: Attempt) -> bool:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return True

    world.answer = answer
    client = await (await world.dial(gate)).say(get("http://allowed.test/"))
    while not world.asked:
        await asyncio.sleep(0.01)
    client.writer.close()
    await ended.wait()
    await client.served
    assert not [told for told in world.decided if told.decision == "allow"]


async def test_nobody_is_asked_to_open_a_private_address(world: World) -> None:
    async def yes(attempt: Attempt) -> bool:
        return True

    world.answer = yes
    gate = world.gate(ask=True, addresses=())
    for host in ("127.0.0.1", "169.254.169.254", "[::1]", "10.0.0.1"):
        assert await status(world, gate, f"http://{host}/") == 403
    assert world.asked == []
    # A name that leads to one is not opened by a yes either.
    assert await status(world, gate, "http://allowed.test/") == 403
    assert world.decided[-1].rule == "blocked-private"


async def downloading(world: World, gate: Gate, url: str) -> Client:
    client = await (await world.dial(gate)).say(get(url))
    assert b" 200 " in await client.head()
    assert await client.reader.readexactly(4) == b"some"
    return client


async def endless(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nsome")
    await writer.drain()
    await reader.read()
    raise ConnectionError


async def test_a_grant_holds_until_it_is_taken_back_and_then_cuts_what_is_open(world: World) -> None:
    server = await world.serve(endless)
    gate = world.gate()
    url = f"http://allowed.test:{server.port}/"
    assert await status(world, gate, url) == 403
    gate.grant("ALLOWED.test.", server.port)
    open_one = await downloading(world, gate, url)
    gate.grant("x.wild.test", server.port)
    other = await downloading(world, gate, f"http://x.wild.test:{server.port}/")
    gate.revoke("allowed.test", server.port)
    assert await open_one.done() == b""
    assert world.closed[-1].why == "the user took the grant back"
    assert await status(world, gate, url) == 403
    assert not other.served.done()
    gate.revoke("x.wild.test", server.port)
    assert await other.done() == b""


async def test_a_grant_for_once_is_for_the_first_command_that_connects(world: World) -> None:
    server = await world.serve()
    gate = world.gate()
    url = f"http://allowed.test:{server.port}/"
    gate.grant("allowed.test", server.port, once=True)
    assert [await status(world, gate, url, call) for call in (FIRST, FIRST, SECOND, None)] == [
        200,
        200,
        403,
        403,
    ]
    gate.revoke("allowed.test", server.port)
    assert await status(world, gate, url) == 403


async def test_taking_back_what_was_answered_once_cuts_it_too(world: World) -> None:
    async def yes(attempt: Attempt) -> bool:
        return True

    world.answer = yes
    server = await world.serve(endless)
    gate = world.gate(ask=True)
    client = await downloading(world, gate, f"http://allowed.test:{server.port}/")
    gate.revoke("allowed.test", server.port)
    assert await client.done() == b""


async def test_a_deny_rule_stands_above_grants_and_lists_and_a_new_policy_cuts(world: World) -> None:
    server = await world.serve(endless)
    listed = Network(allow=(f"allowed.test:{server.port}",), addresses=("127.0.0.0/8",))
    gate = world.gate(Policy(name="before", network=listed))
    url = f"http://allowed.test:{server.port}/"
    client = await downloading(world, gate, url)
    rule = Rule(syscall="network", when=When(host="*.test"), action="deny", reason="Not any more.")
    gate.replace_policy(Policy(name="after", network=listed, rules=(rule,)))
    assert await client.done() == b""
    gate.grant("allowed.test", server.port)
    assert await status(world, gate, url) == 403
    assert world.decided[-1].reason == "Not any more."


async def test_a_connection_is_told_with_the_command_it_descends_from_and_no_other(world: World) -> None:
    server = await world.serve()

    async def answer(attempt: Attempt) -> bool:
        return attempt.origin.call_id == SECOND

    world.answer = answer
    gate = world.gate(ask=True)
    url = f"http://allowed.test:{server.port}/"
    assert await status(world, gate, url, SECOND) == 200
    # The job of an earlier command connects while the later one is allowed to.
    assert await status(world, gate, url, FIRST) == 403
    assert [told.attempt.origin.call_id for told in world.decided] == [SECOND, FIRST]
    assert world.decided[0].attempt.origin.program == "prog"
