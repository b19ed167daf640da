"""Tunnels: what is spoken on a connection whose bytes are not the gate's to change.

On port 443 it must be TLS whose ClientHello names the host that was allowed. On a port that the policy names
any protocol may be spoken, but TLS is held to the same rule. On other ports it is that TLS, or plain HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from policies.patterns import canonical_host, is_address
from sandbox.egress.errors import Refused
from sandbox.egress.hello import HELLO_MAX, RECORDS_MAX, NotTls, looks_like_tls, read_hello
from sandbox.egress.live import HEAD_S, Live, Way
from sandbox.egress.peers import Guest, Peer

HTTPS, HTTP = 443, 80
BUFFER_MAX = HELLO_MAX + 5 * RECORDS_MAX


def may_be_anything(way: Way) -> bool:
    """Whether the other side may speak first, in whatever protocol."""
    return way.reach.named_port and way.port not in (HTTP, HTTPS)


async def require_named_host(guest: Guest, way: Way) -> None:
    """Read the ClientHello, and leave it unused. Refused unless it names the host the tunnel is for."""
    try:
        async with asyncio.timeout(HEAD_S):
            while (hello := read_hello(bytes(guest.unused[: BUFFER_MAX + 1]))) is None:
                if len(guest.unused) > BUFFER_MAX or not await guest.more():
                    raise NotTls("the ClientHello does not end")
    except NotTls as error:
        raise Refused("tls", f"Only TLS may be spoken here: {error}.") from None
    except TimeoutError:
        raise Refused("tls", "No ClientHello came in time.") from None
    if hello.hidden:
        raise Refused("tls", "An encrypted ClientHello hides whom it is for.")
    if hello.server_name is None:
        if not is_address(way.host):
            raise Refused("tls", "The ClientHello names no host (SNI).")
    elif canonical_host(hello.server_name) != way.host:
        raise Refused("tls", f"The ClientHello names another host (SNI) than {way.host}.")


async def begins_with_tls(guest: Guest) -> bool:
    """Wait for the first bytes and leave them unused."""
    try:
        async with asyncio.timeout(HEAD_S):
            while len(guest.unused) < 2 and await guest.more():
                pass
    except TimeoutError:
        raise Refused("tls", "Nothing was said in time.") from None
    return len(guest.unused) >= 2 and looks_like_tls(bytes(guest.unused[:2]))


async def splice(live: Live, guest: Guest, upstream: Peer, *, check: Way | None = None) -> None:
    """Carry both directions until each has ended. With `check`, TLS must name that way's host."""

    async def outwards() -> None:
        if check is not None and await _first_bytes_are_tls(guest):
            await require_named_host(guest, check)
        await _pump(guest, upstream, live.sent)

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(outwards())
            group.create_task(_pump(upstream, guest, live.received))
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
