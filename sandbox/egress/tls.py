"""TLS ended at the gate: a connection from inside, decrypted, with the shape of the one beneath it."""

from __future__ import annotations

import asyncio
import contextlib
import ssl

from sandbox.protocol import Connection, Origin

READ = 65_536
HANDSHAKE_S = 30.0


class TlsConnection:
    """The server's side of TLS over a `Connection`; itself a `Connection` of plain bytes."""

    def __init__(self, beneath: Connection, context: ssl.SSLContext) -> None:
        self._beneath = beneath
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._sending = asyncio.Lock()

    @classmethod
    async def accept(cls, beneath: Connection, context: ssl.SSLContext, first: bytes) -> TlsConnection:
        """Shake hands; `first` was read from `beneath` already. ConnectionError or TimeoutError."""
        self = cls(beneath, context)
        self._incoming.write(first)
        async with asyncio.timeout(HANDSHAKE_S):
            while True:
                try:
                    self._tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    await self._flush()
                    await self._fill()
                except ssl.SSLError as error:
                    await self._flush()
                    raise ConnectionAbortedError(f"no TLS with the program inside: {error.reason}") from error
            await self._flush()
        return self

    @property
    def origin(self) -> Origin:
        return self._beneath.origin

    async def receive(self) -> bytes:
        while True:
            try:
                return self._tls.read(READ)
            except ssl.SSLWantReadError:
                await self._flush()
                await self._fill(ends=True)
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""
            except ssl.SSLError as error:
                raise ConnectionAbortedError(f"broken TLS: {error.reason}") from error

    async def send(self, data: bytes) -> None:
        try:
            for at in range(0, len(data), READ):
                self._tls.write(data[at : at + READ])
                await self._flush()
        except ssl.SSLError as error:
            raise ConnectionAbortedError(f"broken TLS: {error.reason}") from error

    async def end(self) -> None:
        # Says goodbye; what the other side still has to say is not waited for by TLS.
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()
        await self._flush()
        await self._beneath.end()

    def abort(self) -> None:
        self._beneath.abort()

    async def _fill(self, *, ends: bool = False) -> None:
        data = await self._beneath.receive()
        if data:
            self._incoming.write(data)
        elif ends:
            self._incoming.write_eof()
        else:
            raise ConnectionResetError("the program inside left in the middle of TLS")

    async def _flush(self) -> None:
        # One at a time: reading and writing both produce bytes, and their order is the protocol.
        async with self._sending:
            data = self._outgoing.read()
            if data:
                await self._beneath.send(data)
