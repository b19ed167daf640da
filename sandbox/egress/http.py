"""The forward proxy (HTTP/1.1): every request of a kept-alive connection is decided on its own.

A request is parsed and written anew, never passed on as bytes, so that both sides agree where it ends. Bodies
stream in both directions; none is ever held.
"""

from __future__ import annotations

import asyncio

import h11

from policies.egress import has_request_rules, normal_target
from policies.patterns import canonical_host
from sandbox.egress.bound import BoundSecrets
from sandbox.egress.errors import Cut, EgressError, Malformed, Refused, Unreached
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
from sandbox.egress.masking import MaskedPeer
from sandbox.egress.peers import Outside
from sandbox.egress.report import Spoken, printable
from sandbox.egress.tunnel import splice
from sandbox.egress.warden import Warden

FLUSH_BYTES = 64 << 10
HUNG_UP_S = 10.0
"""How long a program that has ended its side is waited for while nothing comes for it."""
OPENED = b"HTTP/1.1 200 Connection established\r\n\r\n"
_HOP = frozenset(
    (b"connection", b"keep-alive", b"te", b"trailer", b"upgrade", b"http2-settings", b"host")
)  # fmt: skip
_FRAMING = frozenset((b"content-length", b"transfer-encoding"))
_ENCODINGS = frozenset((b"accept-encoding", b"range", b"sec-websocket-extensions"))
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


class Exchange:
    """One request and its response, between two parsers."""

    def __init__(self, live: Live, server: h11.Connection, request: h11.Request, upstream: Outside) -> None:
        self._live, self._server, self._request, self._upstream = live, server, request, upstream
        self._client = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_MAX)
        self._websocket = _wants_websocket(request)
        secrets = live.secrets if live.secrets is not None and live.secrets.binds(upstream.host) else None
        self._secrets, self._mask = secrets, secrets.mask() if secrets is not None else None
        self._out: list[bytes] = []
        """Of the response, not yet passed on."""
        self._out_bytes = 0

    async def carry(self, path: bytes) -> bool:
        """Carry it; whether another request may follow on the same connection."""
        try:
            head = self._client.send(self._rewritten(path)) or b""
            first = self._next_of_body()
            if isinstance(first, h11.EndOfMessage):
                # Before the answer is read: it may be complete at once.
                head += self._client.send(first) or b""
            await self._send(head)
            switched = await self._both(first)
        except h11.RemoteProtocolError:
            raise Unreached("The other side does not speak HTTP as it should.") from None
        except h11.LocalProtocolError:
            raise Unreached("The response does not fit its request.") from None
        if switched:
            await self._switch()
            return False
        return self._finish()

    def _rewritten(self, path: bytes) -> h11.Request:
        host = self._upstream.host
        authority = f"[{host}]" if ":" in host else host
        if self._upstream.port != (80 if self._live.secrets is None else 443):
            authority += f":{self._upstream.port}"
        headers = [(b"Host", authority.encode("ascii")), *_end_to_end(self._request)]
        if self._secrets is not None:
            # What is to be masked must come as it is: neither compressed nor in pieces of a larger whole.
            headers = [pair for pair in headers if pair[0].lower() not in _ENCODINGS]
            headers = self._secrets.inject(host, [*headers, (b"Accept-Encoding", b"identity")])
        if self._websocket:
            headers += [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")]
        return h11.Request(method=self._request.method, target=path, headers=headers)

    def _next_of_body(self) -> h11.Data | h11.EndOfMessage | None:
        """The next piece of the request's body; None when more must be received first."""
        try:
            event = self._server.next_event()
        except h11.RemoteProtocolError:
            raise Malformed("the request's body is malformed") from None
        return event if isinstance(event, h11.Data | h11.EndOfMessage) else None

    async def _both(self, first: h11.Data | h11.EndOfMessage | None) -> bool:
        """Body and response at the same time: some servers answer before they have heard all."""
        try:
            async with asyncio.TaskGroup() as group:
                body = group.create_task(self._ask(first))
                switched = await self._relay()
                # The answer is complete; what is left of the question interests nobody.
                body.cancel()
                return switched
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _ask(self, first: h11.Data | h11.EndOfMessage | None) -> None:
        """Send the body, then watch that somebody waits for the answer. ConnectionError when nobody does."""
        guest, live = self._live.guest, self._live
        if not isinstance(first, h11.EndOfMessage):
            await self._send_body(first)
        await guest.gone()
        moved = -1
        while guest.ended and moved != live.bytes_in:
            # It may have ended its own side alone, and will read to the end.
            moved = live.bytes_in
            await asyncio.sleep(HUNG_UP_S)
        raise ConnectionAbortedError("the program hung up")

    async def _send_body(self, event: h11.Data | h11.EndOfMessage | None) -> None:
        while True:
            if event is None:
                self._server.receive_data(await self._live.guest.receive())
            else:
                # Trailers end here: nothing about them was decided.
                ends = isinstance(event, h11.EndOfMessage)
                piece = self._client.send(h11.EndOfMessage() if ends else event)
                try:
                    await self._send(piece)
                except ConnectionError:
                    return  # It may have answered before it hung up: the response is still read.
                if ends:
                    return
            event = self._next_of_body()

    async def _send(self, data: bytes | None) -> None:
        if data:
            self._live.sent(len(data))
            await self._upstream.send(data)

    async def _relay(self) -> bool:
        """Pass the response on as it comes; whether the connection has become a websocket."""
        while True:
            event = self._client.next_event()
            if event is h11.NEED_DATA:
                await self._flush()
                data = await self._upstream.receive()
                self._live.received(len(data))
                self._client.receive_data(data)
            elif isinstance(event, h11.InformationalResponse):
                if event.status_code == 101:
                    self._pass_on(_informational(event, self._masked(_end_to_end(event)), upgrade=True))
                    await self._flush()
                    return True
                if self._request.http_version == b"1.1":
                    self._pass_on(_informational(event, self._masked(_end_to_end(event))))
            elif isinstance(event, h11.Response):
                if self._mask is not None and header(event, b"content-encoding") not in (b"", b"identity"):
                    raise Unreached("The response is encoded, so what it echoes could not be masked.")
                headers = self._masked(_end_to_end(event))
                self._pass_on(
                    h11.Response(status_code=event.status_code, headers=headers, reason=event.reason)
                )
            elif isinstance(event, h11.Data):
                data = bytes(event.data)
                self._pass_on_data(data if self._mask is None else self._mask.feed(data))
            elif isinstance(event, h11.EndOfMessage):
                if self._mask is not None:
                    self._pass_on_data(self._mask.flush())
                self._pass_on(h11.EndOfMessage())
                await self._flush()
                return False
            else:
                raise Unreached("The other side broke off.")
            if self._out_bytes >= FLUSH_BYTES:
                await self._flush()

    def _pass_on(self, event: h11.InformationalResponse | h11.Response | h11.Data | h11.EndOfMessage) -> None:
        if piece := self._server.send(event):
            self._out.append(piece)
            self._out_bytes += len(piece)

    def _pass_on_data(self, data: bytes) -> None:
        if data:
            self._pass_on(h11.Data(data=data))

    def _masked(self, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        if self._mask is None:
            return headers
        return [(name, self._mask.whole(value)) for name, value in headers]

    async def _flush(self) -> None:
        if self._out:
            # From here on an error of ours would be read as a part of the response.
            self._live.answer = None
            data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
            self._out.clear()
            self._out_bytes = 0
            await self._live.guest.send(data)

    async def _switch(self) -> None:
        early, late = self._client.trailing_data[0], self._server.trailing_data[0]
        self._live.guest.unused[:0] = late
        if early:
            await self._live.guest.send(early if self._mask is None else self._mask.feed(early))
        upstream = self._upstream if self._mask is None else MaskedPeer(self._upstream, self._mask)
        await splice(self._live, self._live.guest, upstream)

    def _finish(self) -> bool:
        done = self._client.our_state is h11.DONE and self._client.their_state is h11.DONE
        if not done or self._client.trailing_data[0]:
            self._upstream.abort()
            self._live.upstream = None
        if self._server.our_state is not h11.DONE or self._server.their_state is not h11.DONE:
            return False
        self._live.guest.unused[:0] = self._server.trailing_data[0]
        return True


def _wants_websocket(request: h11.Request) -> bool:
    return (
        request.method == b"GET"
        and request.http_version == b"1.1"
        and header(request, b"upgrade").strip().lower() == b"websocket"
        and b"upgrade" in _tokens(header(request, b"connection"))
        and not any(header(request, name) for name in _FRAMING)
    )


def _tokens(value: bytes) -> set[bytes]:
    return {token.strip().lower() for token in value.split(b",")}


def _end_to_end(message: h11.Request | h11.Response | h11.InformationalResponse) -> list[tuple[bytes, bytes]]:
    """The headers that are meant for the other end, spelled as they came."""
    named = _tokens(header(message, b"connection")) - _FRAMING
    return [
        (raw, value)
        for raw, value in message.headers.raw_items()
        if (name := raw.lower()) not in _HOP and name not in named and not name.startswith(b"proxy-")
    ]


def _informational(
    event: h11.InformationalResponse, headers: list[tuple[bytes, bytes]], *, upgrade: bool = False
) -> h11.InformationalResponse:
    if upgrade:
        headers += [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")]
    return h11.InformationalResponse(status_code=event.status_code, headers=headers, reason=event.reason)
