"""The forward proxy (HTTP/1.1): every request of a kept-alive connection is decided on its own.

What is refused or comes to nothing gets an answer of ours; what is allowed is carried by `exchange`.
"""

from __future__ import annotations

import h11

from policies.egress import has_request_rules, normal_target
from policies.patterns import canonical_host
from sandbox.egress.bound import BoundSecrets
from sandbox.egress.errors import Cut, EgressError, Malformed, Refused, Unreached
from sandbox.egress.exchange import Exchange
from sandbox.egress.head import (
    HEAD_MAX,
    Target,
    absolute_target,
    connect_target,
    header,
    origin_target,
    parse_head,
    read_head,
)
from sandbox.egress.live import Live, Way
from sandbox.egress.peers import Outside
from sandbox.egress.report import Spoken, printable
from sandbox.egress.warden import Warden

OPENED = b"HTTP/1.1 200 Connection established\r\n\r\n"
_OVERRIDES = (b"x-http-method-override", b"x-http-method", b"x-method-override")
_STATUS = {
    400: "Bad Request", 403: "Forbidden", 408: "Request Timeout", 431: "Request Header Fields Too Large",
    502: "Bad Gateway", 504: "Gateway Timeout",
}  # fmt: skip


async def serve_http(gate: Warden, live: Live, inside: Way | None = None) -> None:
    """Answer requests until one side is done; `inside` is the way of the tunnel they come through."""
    while True:
        live.answer = _nothing
        # Between requests a connection may rest as long as any other.
        if not live.guest.unused and not await live.guest.more():
            return
        live.answer = answer
        head = await read_head(live.guest)
        live.touch()
        server = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_MAX)
        gate.asked_for(live, "http", printable(head.split(b"\r\n", 1)[0]))
        request = parse_head(head, server)
        if request.method == b"HEAD":
            live.answer = answer_head
        if request.method == b"CONNECT":
            if inside is not None:
                raise Malformed("a tunnel does not lead to another")
            target = connect_target(request)
            way = await gate.authorise(live, "connect", target.host, target.port)
            await gate.tunnel(live, way, OPENED)
            return
        if inside is not None:
            target = origin_target(request, inside.host, inside.port)
        else:
            target = absolute_target(request)
        way, upstream = await _way(gate, live, request, target)
        if not await Exchange(live, server, request, upstream).carry(_path_to_send(gate, way, target)):
            return


async def _way(gate: Warden, live: Live, request: h11.Request, target: Target) -> tuple[Way, Outside]:
    """Decide the request, and reach where it goes: by the connection that is open, where it fits."""
    method = request.method.decode("ascii")
    limited = has_request_rules(gate.policy, canonical_host(target.host) or "")
    if limited and any(header(request, name) for name in _OVERRIDES):
        raise Refused("network.requests", "A header would turn the request into another method.")
    protocol: Spoken = "http" if live.secrets is None else "https"
    way = await gate.authorise(live, protocol, target.host, target.port, method=method, path=target.path)
    if live.secrets is not None:
        _refuse_withheld(live.secrets, way.host, request)
    if live.upstream is not None and way.addresses:
        live.upstream.abort()
        live.upstream = None
    return way, live.upstream or await gate.connect(live, way)


def _refuse_withheld(secrets: BoundSecrets, host: str, request: h11.Request) -> None:
    withheld = secrets.wanted(host, request.headers.raw_items())
    if withheld:
        name = withheld[0]
        raise Refused(
            "secrets.bound", f"The use of {name} is not approved.", f"Ask with sudo: secret {name}."
        )


def _path_to_send(gate: Warden, way: Way, target: Target) -> bytes:
    # What a rule was matched against is what is sent, so that the server cannot read it differently.
    limited = has_request_rules(gate.policy, way.host)
    path = normal_target(target.path) if limited else target.path
    assert path is not None  # A path without a normal form was refused.
    return path.encode("ascii")


def answer(error: EgressError) -> bytes:
    """A whole response for a request that comes to nothing: our words only, none of the program's."""
    lines = [f"usermode: {error}"]
    status = 502
    match error:
        case Refused():
            status = 403
            lines += [f"Rule: {error.rule}", error.hint]
        case Malformed():
            status = error.status
        case Cut():
            status = 504
        case Unreached():
            status = 504 if error.late else 502
    body = "".join(f"{line}\n" for line in lines if line).encode()
    return (
        f"HTTP/1.1 {status} {_STATUS.get(status, 'Error')}\r\nContent-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
    ).encode("ascii") + body


def _nothing(error: EgressError) -> bytes:
    """Nobody has asked anything."""
    return b""


def answer_head(error: EgressError) -> bytes:
    """The same to a HEAD request."""
    return answer(error).partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
