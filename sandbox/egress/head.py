"""Heads of HTTP requests, read strictly: what two programs could read differently is refused before any of it
is believed. `h11` parses what is left.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

import h11

from policies.patterns import canonical_host
from sandbox.egress.errors import Malformed
from sandbox.egress.live import HEAD_S
from sandbox.egress.peers import Guest

HEAD_MAX = 64 << 10
_SINGLE = (b"host", b"content-length", b"transfer-encoding")
"""Headers that decide where a request goes and where it ends."""
_LONE = re.compile(rb"(?<!\r)\n|\r(?!\n)|\x00")
_METHOD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}")
_AUTHORITY = re.compile(r"(\[[0-9A-Za-z:.%]{0,80}\]|[0-9A-Za-z.-]{1,260})(?::([1-9][0-9]{0,4}))?")


@dataclass(frozen=True)
class Target:
    """Whom a request is for."""

    host: str
    """As it was said; letters, digits, dots and hyphens, or something in brackets."""
    port: int
    path: str
    """From the first slash on, with the query; "" for CONNECT."""


async def read_head(guest: Guest) -> bytes:
    """Take one complete head. Malformed when there is none, or too much of it."""
    seen = 0
    try:
        async with asyncio.timeout(HEAD_S):
            while (end := guest.unused.find(b"\r\n\r\n", max(0, seen - 3))) < 0:
                _check_beginning(guest.unused, seen)
                seen = len(guest.unused)
                if seen > HEAD_MAX:
                    break
                if not await guest.more():
                    raise Malformed("the request is cut short")
    except TimeoutError:
        raise Malformed("the request's head did not come in time", 408) from None
    if end < 0 or end > HEAD_MAX:
        raise Malformed("the request's head is too large", 431)
    head = bytes(guest.unused[: end + 4])
    del guest.unused[: end + 4]
    _check_beginning(head, 0)
    return head


def _check_beginning(data: bytes | bytearray, seen: int) -> None:
    if data and not _METHOD.match(data):
        raise Malformed("this is no HTTP request")
    found = _LONE.search(data, max(0, seen - 1))
    # A CR at the very end may yet be followed by its LF.
    if found and not (data[found.start()] == 13 and found.end() == len(data)):
        raise Malformed("a line of the head does not end in CR LF")


def parse_head(head: bytes, server: h11.Connection) -> h11.Request:
    """Feed one head to a fresh parser. Malformed for anything ambiguous."""
    lines = head[:-4].split(b"\r\n")
    if any(line[:1] in (b" ", b"\t", b"") for line in lines):
        raise Malformed("a header is folded or empty")
    try:
        server.receive_data(head)
        request = server.next_event()
    except h11.RemoteProtocolError:
        raise Malformed("the request's head is malformed") from None
    if not isinstance(request, h11.Request) or request.http_version not in (b"1.0", b"1.1"):
        raise Malformed("only HTTP/1.0 and HTTP/1.1 are spoken here")
    # As they were sent: the parser has put some of them in order already.
    sent = [
        (name.strip().lower(), value.strip())
        for name, _, value in (line.partition(b":") for line in lines[1:])
    ]
    single = {name: value for name, value in sent if name in _SINGLE}
    if sum(name in _SINGLE for name, _ in sent) != len(single):
        raise Malformed("a header that may stand once stands twice")
    encoding, length = single.get(b"transfer-encoding"), single.get(b"content-length")
    if encoding is not None:
        if length is not None or request.http_version == b"1.0":
            raise Malformed("the length of the body has two readings")
        if encoding.lower() != b"chunked":
            raise Malformed("the body comes in an unknown encoding")
    if length is not None and not length.isdigit():
        raise Malformed("the length of the body has no clear reading")
    return request


def header(message: h11.Request | h11.Response | h11.InformationalResponse, name: bytes) -> bytes:
    """The value of a header, b"" without one; several are joined by commas."""
    return b",".join(value for key, value in message.headers if key == name)


def connect_target(request: h11.Request) -> Target:
    """Of a CONNECT."""
    if header(request, b"content-length") not in (b"", b"0") or header(request, b"transfer-encoding"):
        raise Malformed("CONNECT has no body")
    # Its Host header goes nowhere, and Node's own library writes the proxy's name into it.
    host, port = read_authority(request.target.decode("ascii"), None)
    return Target(host, port, "")


def absolute_target(request: h11.Request) -> Target:
    """Of a request to a proxy: `http://host:port/path`."""
    target = request.target.decode("ascii")
    scheme, separator, rest = target.partition("://")
    if not separator or scheme.lower() != "http":
        raise Malformed("a proxy is asked for http://host/path, or CONNECT host:port")
    cut = min((at for at in (rest.find("/"), rest.find("?")) if at >= 0), default=len(rest))
    host, port = read_authority(rest[:cut], 80)
    _check_host(request, host, port)
    path = rest[cut:]
    return Target(host, port, _path(path if path.startswith("/") else "/" + path))


def origin_target(request: h11.Request, host: str, port: int) -> Target:
    """Of a request inside a tunnel that leads to this host."""
    target = request.target.decode("ascii")
    if not target.startswith("/"):
        return _same(absolute_target(request), host, port)
    if not header(request, b"host"):
        raise Malformed("the request names no host")
    _check_host(request, host, port)
    return Target(host, port, _path(target))


def _same(target: Target, host: str, port: int) -> Target:
    if (canonical_host(target.host), target.port) != (host, port):
        raise Malformed("the request is for another host than the tunnel")
    return target


def _path(path: str) -> str:
    if "#" in path:
        raise Malformed("a request has no fragment")
    return path


def read_authority(text: str, default_port: int | None) -> tuple[str, int]:
    """Host and port. Malformed for userinfo, for characters no host has, and for a port out of range."""
    match = _AUTHORITY.fullmatch(text)
    if match is None:
        raise Malformed("the host or the port has no clear reading")
    port = default_port if match[2] is None else int(match[2])
    if port is None or not 1 <= port <= 65_535:
        raise Malformed("the port is missing or out of range")
    return match[1], port


def _check_host(request: h11.Request, host: str, port: int) -> None:
    """The Host header says the same as the target, or nothing (HTTP/1.0)."""
    said = header(request, b"host").decode("latin-1")
    if not said:
        return
    named, its_port = read_authority(said, port)
    if (canonical_host(named) or named, its_port) != (canonical_host(host) or host, port):
        raise Malformed("the Host header names another host than the request")
