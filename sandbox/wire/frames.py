"""Frames of the wire, as bytes: building requests, parsing what init sends. Pure; every input is hostile.

The format is described in images/init/PROTOCOL.md.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
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
_SPAWN = struct.Struct("<IIIIQHHHHII")
_RESULT = struct.Struct("<iiII6QII")
_FACTS = struct.Struct("<QqIHH")
_OPENED = struct.Struct("<HHiQ")
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


@dataclass(frozen=True)
class Spawn:
    """What SPAWN carries. Times in milliseconds, 0 for none."""

    argv: Sequence[bytes]
    cwd: bytes
    env: Sequence[bytes]
    """`NAME=value` each."""
    flags: int
    timeout_ms: int
    grace_ms: int
    output_bytes: int
    spill_bytes: int
    rows: int = 0
    columns: int = 0
    stdin: bytes = b""

    def encode(self, epoch: int, number: int) -> bytes:
        """One frame, or several that belong together. ValueError when it cannot be asked for."""
        body = self.body()
        parts = [body[at : at + FRAME_MAX] for at in range(0, len(body), FRAME_MAX)]
        last = len(parts) - 1
        return b"".join(
            frame(epoch, Request.SPAWN, number, part, flag=MORE if at < last else 0)
            for at, part in enumerate(parts)
        )

    def body(self) -> bytes:
        """What the frames carry together. ValueError when it cannot be asked for."""
        strings = [self.cwd, *self.argv, *self.env]
        joined = b"\0".join(strings)
        if joined.count(b"\0") != len(strings) - 1:
            raise ValueError("a NUL byte cannot be part of a command, its directory or its environment")
        if not self.argv or len(self.argv) > 4096 or len(self.env) > 1024:
            raise ValueError("a command has 1 to 4096 words and at most 1024 environment variables")
        if max(map(len, strings)) > 128 * 1024 - 1:
            raise ValueError(
                "one word of a command holds at most 128 KiB; put the rest in a file or in stdin"
            )
        fixed = _SPAWN.pack(
            self.flags, self.timeout_ms, self.grace_ms, self.output_bytes, self.spill_bytes, self.rows,
            self.columns, len(self.argv), len(self.env), len(self.stdin), 0,
        )  # fmt: skip
        body = fixed + joined + b"\0" + self.stdin
        if len(body) > REQUEST_MAX:
            raise ValueError(
                f"a command holds at most {REQUEST_MAX} bytes in all; put the rest in a file or in stdin"
            )
        return body


class Result(NamedTuple):
    exit_code: int
    signal: int
    flags: int
    jobs: int
    out_total: int
    err_total: int
    duration_us: int
    user_us: int
    system_us: int
    rss_kb: int
    out_kept: int
    err_kept: int

    @classmethod
    def decode(cls, payload: bytes) -> tuple[Result, bytes]:
        """The result and, when it fitted, what was kept of both streams."""
        if len(payload) < _RESULT.size:
            raise WireError("the sandbox broke the protocol: a short result")
        return cls(*_RESULT.unpack_from(payload)), payload[_RESULT.size :]


class Facts(NamedTuple):
    """Of a path; `mode` is st_mode as the kernel gives it."""

    size: int
    mtime_ns: int
    mode: int
    name: bytes
    target: bytes

    @classmethod
    def decode_all(cls, payload: bytes) -> list[Facts]:
        found: list[Facts] = []
        at = 0
        while at < len(payload):
            if len(payload) - at < _FACTS.size:
                raise WireError("the sandbox broke the protocol: half an entry")
            size, mtime, mode, name, target = _FACTS.unpack_from(payload, at)
            at += _FACTS.size
            if len(payload) - at < name + target:
                raise WireError("the sandbox broke the protocol: an entry without its name")
            found.append(
                cls(size, mtime, mode, payload[at : at + name], payload[at + name : at + name + target])
            )
            at += name + target
        return found


class Living(NamedTuple):
    """A call the sandbox knows: its id, its living processes, 1 running, 2 result kept, 3 only jobs."""

    id: int
    processes: int
    state: int


def decode_calls(payload: bytes) -> list[Living]:
    """Of WELCOME and of the answer to CALLS."""
    if len(payload) < 8:
        raise WireError("the sandbox broke the protocol: a short list of calls")
    version, count = struct.unpack_from("<II", payload)
    if version != VERSION:
        raise WireError(
            f"the sandbox speaks version {version} of the wire, this is version {VERSION}; open a new one"
        )
    if len(payload) != 8 + 16 * count:
        raise WireError("the sandbox broke the protocol: a list of calls of the wrong length")
    return [Living(*struct.unpack_from("<QII", payload, 8 + 16 * at)) for at in range(count)]


class Opened(NamedTuple):
    """What OPENED says of a connection. Port 0 is one that the host asked for."""

    port: int
    pid: int
    call: int
    """0 when it could not be told."""
    program: bytes

    @classmethod
    def decode(cls, payload: bytes) -> Opened:
        if not _OPENED.size <= len(payload) <= _OPENED.size + 256:
            raise WireError("the sandbox broke the protocol: a connection of the wrong length")
        port, zero, pid, call = _OPENED.unpack_from(payload)
        if zero or pid < 0:
            raise WireError("the sandbox broke the protocol: a connection of nobody")
        return cls(port, pid, call, payload[_OPENED.size :])


def decode_count(payload: bytes) -> int:
    """Of STREAM_TAKEN: bytes so far."""
    if len(payload) != 8:
        raise WireError("the sandbox broke the protocol: a short credit")
    return int.from_bytes(payload, "little")


def port_request(port: int) -> bytes:
    return port.to_bytes(2, "little")


def stream_frames(epoch: int, number: int, data: memoryview) -> bytes:
    """STREAM frames that carry all of it, in one piece."""
    trailer = _TRAILER.pack(epoch)
    parts: list[bytes | memoryview] = []
    for at in range(0, len(data), FRAME_MAX):
        piece = data[at : at + FRAME_MAX]
        parts += (_HEADER.pack(epoch, len(piece), Request.STREAM, 0, 0, 0, number), piece, trailer)
    return b"".join(parts)


def read_request(path: bytes, offset: int, limit: int) -> bytes:
    return struct.pack("<QQ", offset, limit) + path + b"\0"


def write_request(path: bytes, mode: int, flags: int, digest: bytes) -> bytes:
    return struct.pack("<II", mode, flags) + digest.ljust(32, b"\0") + path + b"\0"
