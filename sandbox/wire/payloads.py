"""Payloads of the wire: what a request says, and what a reply tells. Pure; every reply is hostile."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sandbox.errors import WireError
from sandbox.wire.frames import (
    FRAME_MAX,
    MORE,
    REQUEST_MAX,
    VERSION,
    Request,
    frame,
)

_SPAWN = struct.Struct("<IIIIQHHHHII")
_RESULT = struct.Struct("<iiII6QII")
_FACTS = struct.Struct("<QqIHH")
_OPENED = struct.Struct("<HHiQ")


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


def read_request(path: bytes, offset: int, limit: int) -> bytes:
    return struct.pack("<QQ", offset, limit) + path + b"\0"


def write_request(path: bytes, mode: int, flags: int, digest: bytes) -> bytes:
    return struct.pack("<II", mode, flags) + digest.ljust(32, b"\0") + path + b"\0"
