"""The first words of TLS (ClientHello): whom the program inside says it wants to speak to.

Strict and bounded: what a server might read differently is no ClientHello here. A server may answer that it
wants another one (HelloRetryRequest, RFC 8446 4.1.4), and then that one counts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, field

HELLO_MAX = 16 << 10
"""Of the handshake message; the largest that browsers send is about 2 KiB."""
RECORDS_MAX = 64
ALERT, HANDSHAKE = 21, 22
BESIDE_HANDSHAKE = frozenset({20, ALERT, 23})
"""Kinds of records that may come between two ClientHellos: a change of ciphers, alerts, early data."""
_CLIENT_HELLO, _SERVER_HELLO = 1, 2
_RANDOM = slice(6, 38)
_AGAIN = hashlib.sha256(b"HelloRetryRequest").digest()
"""In place of random bytes; the standard's own words."""
_SERVER_NAME, _HIDDEN_NAMES = 0, (0xFE0D, 0xFFCE)


class NotTls(ValueError):
    """The message says in our words why these bytes are no acceptable ClientHello."""


@dataclass(frozen=True)
class Hello:
    server_name: str | None
    """As it was sent: ASCII, not canonical."""
    hidden: bool
    """It carries an encrypted ClientHello, which could name somebody else."""
    size: int = field(default=0, compare=False)
    """Bytes of the records that hold it."""


def read_hello(data: bytes) -> Hello | None:
    """Read a ClientHello from the beginning of `data`; None when more bytes are needed. NotTls."""
    found = _handshake(data)
    return None if found is None else _client_hello(*found)


def asks_again(data: bytes) -> bool | None:
    """Whether a server's first bytes ask for another ClientHello; None when more bytes are needed. NotTls."""
    message, at = bytearray(), 0
    for _ in range(RECORDS_MAX):
        kind, size = _header(data[at : at + 5], {HANDSHAKE, ALERT})
        if size is None:
            return None
        piece = data[at + 5 : at + 5 + size]
        if kind == HANDSHAKE:
            message += piece
        # A warning may come first: two bytes, and never in the middle of a message.
        if (kind == ALERT and (message or size != 2)) or (message and message[0] != _SERVER_HELLO):
            raise NotTls("the answer does not begin with a ServerHello")
        if len(message) >= _RANDOM.stop:
            return bytes(message[_RANDOM]) == _AGAIN
        if len(piece) < size:
            return None
        at += 5 + size
    raise NotTls("the ServerHello is cut into too many records")


def looks_like_tls(data: bytes) -> bool:
    """Whether these first bytes (two are enough) begin a TLS record with a handshake."""
    return data[:1] == b"\x16" and data[1:2] in (b"", b"\x03")


def _header(header: bytes, kinds: Collection[int]) -> tuple[int, int | None]:
    """Kind and size of a record, of which these are the first bytes; no size while they are not all there."""
    if (header and header[0] not in kinds) or header[1:2] not in (b"", b"\x03"):
        raise NotTls("it does not begin with a TLS handshake")
    if len(header) < 5:
        return 0, None
    size = int.from_bytes(header[3:5], "big")
    if not 1 <= size <= HELLO_MAX:
        raise NotTls("a TLS record of an impossible size")
    return header[0], size


def _handshake(data: bytes) -> tuple[bytes, int] | None:
    """The first handshake message, put together from as many records as it takes, and their size."""
    message, at = bytearray(), 0
    for _ in range(RECORDS_MAX):
        _, size = _header(data[at : at + 5], {HANDSHAKE})
        if size is None:
            return None
        message += data[at + 5 : at + 5 + size]
        if message and message[0] != _CLIENT_HELLO:
            raise NotTls("the handshake does not begin with a ClientHello")
        if len(message) >= 4:
            whole = 4 + int.from_bytes(message[1:4], "big")
            if whole > HELLO_MAX:
                raise NotTls("the ClientHello is too large")
            if len(message) >= whole:
                if len(message) > whole or len(data) < at + 5 + size:
                    raise NotTls("something follows the ClientHello in its record")
                return bytes(message), at + 5 + size
        if len(data) < at + 5 + size:
            return None
        at += 5 + size
    raise NotTls("the ClientHello is cut into too many records")


class _Reader:
    """Takes fields off a message; running out is an error, never a guess."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, size: int) -> bytes:
        piece = self._data[self._at : self._at + size]
        if len(piece) != size:
            raise NotTls("the ClientHello is cut short")
        self._at += size
        return piece

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int, least: int = 0) -> bytes:
        """A field that begins with its own length of `size` bytes."""
        piece = self.take(self.number(size))
        if len(piece) < least:
            raise NotTls("a field of the ClientHello is too short")
        return piece

    @property
    def done(self) -> bool:
        return self._at == len(self._data)


def _client_hello(message: bytes, size: int) -> Hello:
    reader = _Reader(message[4:])
    if reader.number(2) >> 8 != 3:
        raise NotTls("an unknown version of TLS")
    reader.take(32)
    if len(reader.vector(1)) > 32 or len(reader.vector(2, 2)) % 2 or not reader.vector(1, 1):
        raise NotTls("the ClientHello is malformed")
    if reader.done:
        return Hello(None, hidden=False, size=size)
    extensions = _Reader(reader.vector(2))
    if not reader.done:
        raise NotTls("something follows the ClientHello's extensions")
    found: dict[int, bytes] = {}
    while not extensions.done:
        kind = extensions.number(2)
        if kind in found:
            raise NotTls("an extension stands twice in the ClientHello")
        found[kind] = extensions.vector(2)
    name = _server_name(found[_SERVER_NAME]) if _SERVER_NAME in found else None
    return Hello(name, hidden=any(kind in found for kind in _HIDDEN_NAMES), size=size)


def _server_name(extension: bytes) -> str:
    outer = _Reader(extension)
    names = _Reader(outer.vector(2))
    kind, name = names.number(1), names.vector(2, 1)
    if kind != 0 or not names.done or not outer.done:
        raise NotTls("the server name is not exactly one host name")
    try:
        return name.decode("ascii")
    except UnicodeDecodeError:
        raise NotTls("the server name is not ASCII") from None
