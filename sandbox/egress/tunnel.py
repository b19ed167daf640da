"""Tunnels: what is spoken on a connection whose bytes are not the gate's to change.

On port 443 it must be TLS whose ClientHello names the host that was allowed. On a port that the policy names
any protocol may be spoken, but TLS is held to the same rule. On other ports it is that TLS, or plain HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sandbox.egress.errors import Refused
from sandbox.egress.greeting import Greeting
from sandbox.egress.hello import looks_like_tls
from sandbox.egress.live import HEAD_S, Live, Way
from sandbox.egress.peers import Guest, Peer

HTTPS, HTTP = 443, 80


def may_be_anything(way: Way) -> bool:
    """Whether the other side may speak first, in whatever protocol."""
    return way.reach.named_port and way.port not in (HTTP, HTTPS)


async def begins_with_tls(guest: Guest) -> bool:
    """Wait for the first bytes and leave them unused."""
    try:
        async with asyncio.timeout(HEAD_S):
            while len(guest.unused) < 2 and await guest.more():
                pass
    except TimeoutError:
        raise Refused("tls", "Nothing was said in time.") from None
    return len(guest.unused) >= 2 and looks_like_tls(bytes(guest.unused[:2]))


async def splice(
    live: Live, guest: Guest, upstream: Peer, *, tls: Way | None = None, perhaps_tls: bool = False
) -> None:
    """Carry both directions until each has ended. With `tls`, that must name this way's host; with
    `perhaps_tls`, if the program begins with it.
    """
    greeting = None if tls is None else Greeting(live, guest, upstream)

    async def outwards() -> None:
        if tls is not None and greeting is not None:
            if perhaps_tls and not await _first_bytes_are_tls(guest):
                greeting.skip()
            elif not await greeting.greet(tls):
                await upstream.end()
                return
        await _pump(guest, upstream, live.sent)

    async def inwards() -> None:
        if greeting is None or await greeting.watch():
            await _pump(upstream, guest, live.received)

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(outwards())
            group.create_task(inwards())
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None


async def _first_bytes_are_tls(guest: Guest) -> bool:
    # No deadline: the other side may be the one that speaks first.
    while len(guest.unused) < 2 and await guest.more():
        if not looks_like_tls(bytes(guest.unused[:2])):
            return False
    return looks_like_tls(bytes(guest.unused[:2]))


async def _pump(source: Peer, sink: Peer, count: Callable[[int], None]) -> None:
    while data := await source.receive():
        count(len(data))
        await sink.send(data)
    await sink.end()
