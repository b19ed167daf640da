"""SOCKS5 (RFC 1928), as much as a client needs: no authentication, CONNECT, and a name or an address."""

from __future__ import annotations

import asyncio
import ipaddress
import re

from sandbox.egress.errors import EgressError, Malformed, Refused, Unreached
from sandbox.egress.live import HEAD_S, Live
from sandbox.egress.peers import Guest
from sandbox.egress.report import printable
from sandbox.egress.warden import Warden

VERSION = 5
_CONNECT, _NO_AUTHENTICATION = 1, 0
_V4, _NAME, _V6 = 1, 3, 4
_NAME_BYTES = re.compile(rb"[0-9A-Za-z.-]{1,255}")
FAILED, NOT_ALLOWED, UNREACHABLE, REFUSED, UNKNOWN_COMMAND, UNKNOWN_ADDRESS = 1, 2, 4, 5, 7, 8


def reply(code: int) -> bytes:
    return bytes((VERSION, code, 0, _V4)) + bytes(6)


class _Unsupported(Malformed):
    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


async def serve_socks(gate: Warden, live: Live) -> None:
    guest = live.guest
    gate.asked_for(live, "socks5", "")
    try:
        async with asyncio.timeout(HEAD_S):
            methods = (await _take(guest, 2))[1]
            if _NO_AUTHENTICATION not in await _take(guest, methods):
                await guest.send(bytes((VERSION, 0xFF)))
                raise Malformed("SOCKS is spoken here without authentication")
            await guest.send(bytes((VERSION, _NO_AUTHENTICATION)))
            live.answer = answer
            host, port = await _request(gate, live)
    except TimeoutError:
        raise Malformed("the SOCKS request did not come in time") from None
    way = await gate.authorise(live, "socks5", host, port)
    await gate.tunnel(live, way, reply(0))


async def _request(gate: Warden, live: Live) -> tuple[str, int]:
    guest = live.guest
    version, command, reserved, kind = await _take(guest, 4)
    if version != VERSION or reserved != 0:
        raise Malformed("the SOCKS request is malformed")
    if kind == _V4:
        host = str(ipaddress.IPv4Address(await _take(guest, 4)))
    elif kind == _V6:
        host = str(ipaddress.IPv6Address(await _take(guest, 16)))
    elif kind == _NAME:
        name = await _take(guest, (await _take(guest, 1))[0])
        gate.asked_for(live, "socks5", printable(name))
        # All of the bytes are looked at: a NUL or a blank ends no name early.
        if not _NAME_BYTES.fullmatch(name):
            raise Malformed("the host has no clear reading")
        host = name.decode("ascii")
    else:
        raise _Unsupported("an unknown kind of address", UNKNOWN_ADDRESS)
    port = int.from_bytes(await _take(guest, 2), "big")
    gate.asked_for(live, "socks5", printable(host), port)
    if command != _CONNECT:
        raise _Unsupported("only CONNECT is served", UNKNOWN_COMMAND)
    if port == 0:
        raise Malformed("the port is out of range")
    return host, port


def answer(error: EgressError) -> bytes:
    """SOCKS has no words for a reason; it stands in the report."""
    match error:
        case _Unsupported():
            return reply(error.code)
        case Refused() | Malformed():
            return reply(NOT_ALLOWED)
        case Unreached():
            return reply(UNREACHABLE if error.late else REFUSED)
        case _:
            return reply(FAILED)


async def _take(guest: Guest, size: int) -> bytes:
    while len(guest.unused) < size:
        if not await guest.more():
            raise Malformed("the SOCKS request is cut short")
    taken = bytes(guest.unused[:size])
    del guest.unused[:size]
    return taken
