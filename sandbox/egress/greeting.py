"""The greeting of TLS in a tunnel: only ClientHellos that name the host go out before the host has agreed.

A server may answer the first ClientHello that it wants another one, and goes by the name in that. So what a
program says behind its first is held until the answer is there. Behind a ServerHello it may speak freely; a
HelloRetryRequest must be answered with the same name again; after anything else nothing more goes out.
"""

from __future__ import annotations

import asyncio
from typing import Any

from policies.patterns import canonical_host, is_address
from sandbox.egress.errors import Refused
from sandbox.egress.hello import (
    BESIDE_HANDSHAKE,
    HANDSHAKE,
    HELLO_MAX,
    RECORDS_MAX,
    Hello,
    NotTls,
    asks_again,
    read_hello,
)
from sandbox.egress.live import HEAD_S, Live, Way
from sandbox.egress.peers import Guest, Peer

BUFFER_MAX = HELLO_MAX + 5 * RECORDS_MAX
RECORD_MAX = 5 + (16 << 10) + 256
"""Of one that is encrypted."""


async def require_named_host(guest: Guest, way: Way) -> Hello:
    """Read a ClientHello, and leave it unused. Refused unless it names the host the tunnel is for."""
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
    return hello


class Greeting:
    """One connection's: `greet` in the direction out, while `watch` looks at what comes in."""

    def __init__(self, live: Live, guest: Guest, upstream: Peer) -> None:
        self._live, self._guest, self._upstream = live, guest, upstream
        self._again: asyncio.Future[bool | None] = asyncio.get_running_loop().create_future()
        """Whether the host wants another ClientHello; None when it says anything else than TLS, or ends."""

    def skip(self) -> None:
        """What is spoken here is no TLS."""
        self._settle(None)

    async def greet(self, way: Way) -> bool:
        """Carry the ClientHellos; whether the program may go on to speak. Refused when one names another."""
        await self._send((await require_named_host(self._guest, way)).size)
        again = await self._answer()
        if again and await self._between():
            # It stays unused, and is the first that goes out next.
            await require_named_host(self._guest, way)
            return True
        return again is False

    async def watch(self) -> bool:
        """Carry what comes in until the answer is known; False when nothing more comes."""
        seen = b""
        while not self._again.done():
            data = await self._upstream.receive()
            if not data:
                self._settle(None)
                await self._guest.end()
                return False
            self._live.received(len(data))
            await self._guest.send(data)
            seen += data
            try:
                again = asks_again(seen)
            except NotTls:
                self._settle(None)
            else:
                if again is not None:
                    self._settle(again)
        return True

    async def _answer(self) -> bool | None:
        """ConnectionResetError when the program hangs up before the host has answered."""
        hung_up = asyncio.ensure_future(self._guest.gone())
        either: set[asyncio.Future[Any]] = {self._again, hung_up}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            hung_up.cancel()
        if not self._again.done():
            raise ConnectionResetError("left in the middle of the handshake")
        return self._again.result()

    def _settle(self, again: bool | None) -> None:
        if not self._again.done():
            self._again.set_result(again)

    async def _between(self) -> bool:
        """Carry what may come before the second ClientHello; False when the program ends instead."""
        guest = self._guest
        try:
            async with asyncio.timeout(HEAD_S):
                while True:
                    if not guest.unused and not await guest.more():
                        return False
                    if guest.unused[0] == HANDSHAKE:
                        return True
                    await self._send(await self._record())
        except NotTls as error:
            raise Refused("tls", f"Between two ClientHellos: {error}.") from None
        except TimeoutError:
            raise Refused("tls", "No second ClientHello came in time.") from None

    async def _record(self) -> int:
        """Have one whole record of those that may come between; its size."""
        head = self._guest.unused
        while True:
            if head[0] not in BESIDE_HANDSHAKE:
                raise NotTls("something else than TLS")
            size = 5 + int.from_bytes(head[3:5], "big")
            if len(head) >= 5 and size > RECORD_MAX:
                raise NotTls("a record of an impossible size")
            if len(head) >= max(5, size):
                return size
            if not await self._guest.more():
                raise NotTls("a record does not end")

    async def _send(self, size: int) -> None:
        data = bytes(self._guest.unused[:size])
        del self._guest.unused[:size]
        self._live.sent(size)
        await self._upstream.send(data)
