"""Frames of the wire, as bytes: making them, and finding them in what init sends. Pure; all input is hostile.

The format is described in images/init/PROTOCOL.md.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

from sandbox.errors import WireError

VERSION = 1
MAGIC = b"\x7fusermode-wire\x01\x00"
FRAME_MAX = 65_536
REQUEST_MAX = 5 * FRAME_MAX
STDIN_WINDOW = 65_536
STREAM_WINDOW = 256 * 1024
CONN_WINDOW = 512 * 1024
"""Bytes of one connection in flight, each way."""
CONN_OURS = 1 << 63
"""The numbers of connections that init accepted begin here; below are those the host asked for."""
MAX_CONNS = 256

_HEADER = struct.Struct("<IIBBHIQ")
_TRAILER = struct.Struct("<I")
OVERHEAD = _HEADER.size + _TRAILER.size
PADDING = bytes(FRAME_MAX + OVERHEAD)
"""Completes whatever a host that died left half said, so that the magic after it is seen."""


class Request(IntEnum):
    HELLO = 1
    SPAWN = 2
    STDIN = 3
    SIGNAL = 4
    KILL = 5
    ACK = 6
    CREDIT = 7
    PEEK = 8
    FETCH = 9
    RESIZE = 10
    READ = 11
    WRITE = 12
    WRITE_DATA = 13
    STAT = 14
    LIST = 15
    CALLS = 16
    PING = 17
    LEASE = 18
    SHUTDOWN = 19
    LISTEN = 20
    CONNECT = 21
    STREAM = 22
    STREAM_CREDIT = 23
    STREAM_ABORT = 24
    GLANCE = 25


class Reply(IntEnum):
    WELCOME = 65
    OUTPUT = 66
    DONE = 67
    FAIL = 68
    STDIN_CREDIT = 69
    DATA = 70
    OK = 71
    OPENED = 72
    STREAM_DATA = 73
    STREAM_TAKEN = 74
    STREAM_BROKEN = 75


MORE, END = 1, 2
WHOLE = 1
"""Flag of READ: refuse a file with more left than asked for."""
NOT_REGULAR, ALREADY_DONE = 1000, 1001
"""Beside errno in FAIL."""


class SpawnFlag:
    """Plain numbers: combining the members of an enum takes longer than packing the whole frame."""

    TTY = 1
    STDIN = 2
    STDIN_EOF = 4
    CARRY = 8


class ResultFlag:
    TIMED_OUT = 1
    CANCELLED = 2
    OOM = 4
    SPILL_OUT = 8
    SPILL_ERR = 16


class WriteFlag:
    PARENTS = 1
    MUST_NOT_EXIST = 2
    MUST_MATCH = 4
    KEEP_MODE = 8


KILL_CANCEL, KILL_NOW = 1, 2


class Frame(NamedTuple):
    type: int
    flag: int
    id: int
    payload: bytes


class Parser:
    """Turns received bytes into frames. What comes before this connection's nonce is thrown away."""

    def __init__(self, epoch: int, nonce: bytes) -> None:
        self._epoch = epoch
        self._nonce = nonce
        self._trailer = _TRAILER.pack(epoch)
        self._buffer = bytearray()
        self._greeted = False

    def feed(self, data: bytes | memoryview) -> list[Frame]:
        """The frames that are whole now. WireError for what is no frame of ours; then the wire is lost."""
        buffer = self._buffer
        buffer += data
        if not self._greeted and not self._find_nonce():
            return []
        frames: list[Frame] = []
        at, end = 0, len(buffer)
        while end - at >= OVERHEAD:
            epoch, length, kind, flag, _, zero, number = _HEADER.unpack_from(buffer, at)
            if epoch != self._epoch or length > FRAME_MAX or zero or kind not in _REPLIES:
                raise WireError("the sandbox broke the protocol: no frame of this connection")
            whole = at + OVERHEAD + length
            if end < whole:
                break
            payload = bytes(memoryview(buffer)[at + _HEADER.size : whole - _TRAILER.size])
            if buffer[whole - _TRAILER.size : whole] != self._trailer:
                raise WireError("the sandbox broke the protocol: a frame without its end")
            frames.append(Frame(kind, flag, number, payload))
            at = whole
        if at:
            del buffer[:at]
        return frames

    def _find_nonce(self) -> bool:
        at = self._buffer.find(self._nonce)
        if at < 0:
            del self._buffer[: max(0, len(self._buffer) - len(self._nonce) + 1)]
            return False
        del self._buffer[: at + len(self._nonce)]
        self._greeted = True
        return True


_REPLIES = frozenset(int(reply) for reply in Reply)


def frame(
    epoch: int, kind: Request, number: int, payload: bytes = b"", *, flag: int = 0, aux: int = 0
) -> bytes:
    header = _HEADER.pack(epoch, len(payload), kind, flag, aux, 0, number)
    return b"".join((header, payload, _TRAILER.pack(epoch)))


def hello(epoch: int, nonce: bytes, lease_ms: int) -> bytes:
    return MAGIC + frame(epoch, Request.HELLO, 0, struct.pack("<IQ", VERSION, lease_ms) + nonce)


def stream_frames(epoch: int, number: int, data: memoryview) -> bytes:
    """STREAM frames that carry all of it, in one piece."""
    trailer = _TRAILER.pack(epoch)
    parts: list[bytes | memoryview] = []
    for at in range(0, len(data), FRAME_MAX):
        piece = data[at : at + FRAME_MAX]
        parts += (_HEADER.pack(epoch, len(piece), Request.STREAM, 0, 0, 0, number), piece, trailer)
    return b"".join(parts)
