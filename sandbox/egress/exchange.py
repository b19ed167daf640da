"""One request and its response (HTTP/1.1), carried between the two parsers of a proxy.

What arrives is parsed and written anew, never passed on as bytes, so that both sides agree where it ends.
Bodies stream in both directions; none is ever held.
"""

from __future__ import annotations

import asyncio

import h11

from sandbox.egress.errors import Malformed, Unreached
from sandbox.egress.head import HEAD_MAX, header
from sandbox.egress.live import Live
from sandbox.egress.masking import MaskedPeer
from sandbox.egress.peers import Outside
from sandbox.egress.tunnel import splice

FLUSH_BYTES = 64 << 10
HUNG_UP_S = 10.0
"""How long a program that has ended its side is waited for while nothing comes for it."""
_HOP = frozenset(
    (b"connection", b"keep-alive", b"te", b"trailer", b"upgrade", b"http2-settings", b"host")
)  # fmt: skip
_FRAMING = frozenset((b"content-length", b"transfer-encoding"))
_ENCODINGS = frozenset((b"accept-encoding", b"range", b"sec-websocket-extensions"))


class Exchange:
    """A request that was allowed, from its head to the end of its response."""

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
