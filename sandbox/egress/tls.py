"""TLS at the gate, for a session that has it looked into: ended toward the inside, begun anew to the outside.

Both are byte streams of the shape of the one beneath them, so the proxy speaks HTTP over them as over any.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl

from sandbox.egress.errors import Unreached
from sandbox.egress.peers import Guest, Outside, Peer, Upstream
from sandbox.protocol import Origin

READ = 65_536
HANDSHAKE_S = 30.0


class _TlsStream:
    _may_leave = False
    """Whether an end without goodbye is one: a response that was cut short must not look whole."""

    def __init__(self, beneath: Peer, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, tls: ssl.SSLObject):
        self._beneath, self._incoming, self._outgoing, self._tls = beneath, incoming, outgoing, tls
        self._sending = asyncio.Lock()

    async def shake_hands(self) -> None:
        """ssl.SSLError, ConnectionError or TimeoutError when it fails."""
        async with asyncio.timeout(HANDSHAKE_S):
            while True:
                try:
                    self._tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    await self._flush()
                    await self._fill()
                except ssl.SSLError:
                    await self._flush()  # The alert that says why.
                    raise
            await self._flush()

    async def receive(self) -> bytes:
        while True:
            try:
                return self._tls.read(READ)
            except ssl.SSLWantReadError:
                await self._flush()
                await self._fill(may_end=True)
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLError as error:
                if isinstance(error, ssl.SSLEOFError) and self._may_leave:
                    return b""
                raise ConnectionAbortedError(f"broken TLS: {error.reason}") from error

    async def send(self, data: bytes) -> None:
        try:
            for at in range(0, len(data), READ):
                self._tls.write(data[at : at + READ])
                await self._flush()
        except ssl.SSLError as error:
            raise ConnectionAbortedError(f"broken TLS: {error.reason}") from error

    async def end(self) -> None:
        # Says goodbye. The answer to that may be read later, or never come.
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()
        await self._flush()
        await self._beneath.end()

    def abort(self) -> None:
        self._beneath.abort()

    async def _fill(self, *, may_end: bool = False) -> None:
        data = await self._beneath.receive()
        if data:
            self._incoming.write(data)
        elif may_end:
            self._incoming.write_eof()
        else:
            raise ConnectionResetError("left in the middle of the handshake")

    async def _flush(self) -> None:
        # One at a time: reading and writing both produce bytes, and their order is the protocol.
        async with self._sending:
            data = self._outgoing.read()
            if data:
                await self._beneath.send(data)


class TlsGuest(_TlsStream):
    """A program inside, which takes the gate for the host it dialled. A `protocol.Connection`."""

    _may_leave = True

    def __init__(self, beneath: Guest, context: ssl.SSLContext) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_side=True)
        super().__init__(beneath, incoming, outgoing, tls)
        self.origin: Origin = beneath.origin


class TlsUpstream(_TlsStream):
    """The other side, whose certificate was verified for the host's name. Stands where an `Upstream` does."""

    def __init__(self, beneath: Upstream, context: ssl.SSLContext) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_hostname=beneath.host)
        super().__init__(beneath, incoming, outgoing, tls)
        self.host, self.port, self.address = beneath.host, beneath.port, beneath.address
        self._raw = beneath

    def is_quiet(self) -> bool:
        """Whether it is open and says nothing; session tickets, which TLS sends by itself, are no word."""
        try:
            self._incoming.write(self._raw.receive_now())
            self._tls.read(1)
        except ssl.SSLWantReadError:
            return True
        except (ssl.SSLError, OSError):
            return False
        return False


async def verified(raw: Outside, context: ssl.SSLContext) -> TlsUpstream:
    """TLS to a server that proves to be the host asked for. Unreached when it does not."""
    assert isinstance(raw, Upstream)
    upstream = TlsUpstream(raw, context)
    try:
        await upstream.shake_hands()
    except ssl.SSLCertVerificationError as error:
        raw.abort()
        raise Unreached(f"The host's certificate is not good: {error.verify_message}.") from None
    except (ssl.SSLError, ConnectionError) as error:
        raw.abort()
        raise Unreached("The host does not speak TLS as it should.") from error
    except TimeoutError:
        raw.abort()
        raise Unreached("The host does not finish the TLS handshake.", late=True) from None
    except BaseException:
        raw.abort()
        raise
    return upstream
