"""The wire to a model's service (server-sent events): bytes come in, a provider's Reader makes deltas of
them.

The SDKs build, sign and send the request; the answer is read here and not by their typed streams, for three
reasons. A keep-alive that only says the service is alive must reset the idle clock, and the SDKs swallow
those. Blocks a service wants back byte for byte must not pass through somebody's model classes. And every way
to fail must end as one ProviderError, whichever library it came from.

No clock is held across a yield: how long the consumer takes is not the service's fault.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

from harness.messages import JsonObject
from harness.provider import Delta, ProviderError, Reply
from harness.providers.faults import answered, one_line
from harness.providers.sse import Event, EventDecoder

_T = TypeVar("_T")


@dataclass(frozen=True)
class Clocks:
    """How long a service may be silent. Any byte counts as a sign of life, also a ping."""

    connect_s: float = 15.0
    first_s: float = 900.0
    """Until the model's first words; some think for many minutes and say nothing meanwhile."""
    idle_s: float = 300.0
    """After them."""
    reply_s: float = 3600.0
    """The whole reply."""
    trailer_s: float = 5.0
    """For what may follow a whole reply (usage); then the reply is taken as it is."""


CLOCKS = Clocks()


class Reader(Protocol):
    """Makes deltas of one answer's events; raises ProviderError when the service reports trouble in the
    stream.
    """

    complete: bool
    """A whole reply can be made; trailing facts may still come."""
    done: bool
    """Nothing more will come."""

    def feed(self, event: Event) -> Iterable[Delta]: ...

    def reply(self) -> Reply: ...


class Response(Protocol):
    """What both SDKs' raw streaming responses offer."""

    @property
    def headers(self) -> Mapping[str, str]: ...

    def iter_bytes(self) -> AsyncGenerator[bytes, None]: ...


@dataclass(frozen=True)
class Service:
    """Who is asked, for messages and for recognising the SDK's own errors."""

    name: str
    sdk: Any
    """The SDK's module: its APIStatusError, APITimeoutError and APIConnectionError."""
    clocks: Clocks
    hide: tuple[str, ...]
    """Keys, never to be shown."""


async def stream_reply(
    service: Service, opening: AbstractAsyncContextManager[Response], reader: Reader
) -> AsyncGenerator[Delta, None]:
    """Open the response, read its events, yield the reader's deltas and, last, its reply."""
    clocks = service.clocks
    deadline = asyncio.get_running_loop().time() + clocks.reply_s
    async with AsyncExitStack() as stack:
        response = await _open(service, stack, opening)
        chunks = await stack.enter_async_context(aclosing(response.iter_bytes()))
        decoder, spoke = EventDecoder(service.name), False
        while True:
            patience = clocks.idle_s if spoke else clocks.first_s
            if reader.complete:
                patience = min(clocks.trailer_s, 0.25) if reader.done else clocks.trailer_s
            chunk = await _next(service, chunks, patience, deadline, may_end=reader.complete)
            if not chunk:
                break
            for event in decoder.feed(chunk):
                for delta in _understood(service, partial(_listed, reader, event)):
                    spoke = True
                    yield delta
        if not reader.complete:
            raise decoder.unfinished()
    yield _understood(service, reader.reply)


async def _open(
    service: Service, stack: AsyncExitStack, opening: AbstractAsyncContextManager[Response]
) -> Response:
    sdk, who, hide = service.sdk, service.name, service.hide
    try:
        async with asyncio.timeout(service.clocks.first_s):
            response = await stack.enter_async_context(opening)
    except TimeoutError as exc:
        raise ProviderError("timeout", f"{who} gave no answer for {service.clocks.first_s:g} s") from exc
    except sdk.APIStatusError as exc:
        raise answered(who, exc.status_code, exc.body, exc.response.headers, hide) from exc
    except sdk.APITimeoutError as exc:
        raise ProviderError(
            "timeout", f"no connection to {who} within {service.clocks.connect_s:g} s"
        ) from exc
    except sdk.APIConnectionError as exc:
        raise ProviderError("dropped", one_line(f"cannot reach {who}: {cause(exc)}", hide)) from exc
    except Exception as exc:
        raise ProviderError("request", one_line(f"cannot ask {who}: {cause(exc)}", hide)) from exc
    media = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media in {"text/html", "application/json"}:
        body = await _excerpt(service, response)
        if (told := _error_in(body)) is not None:
            raise answered(who, None, told, response.headers, hide)
        raise ProviderError(
            "garbage", one_line(f"{who} answered {media} instead of an event stream: {body}", hide)
        )
    return response


async def _next(
    service: Service, chunks: AsyncIterator[bytes], patience_s: float, deadline: float, *, may_end: bool
) -> bytes:
    """The next bytes, empty at the end. Once the reply is whole, trouble on the line no longer matters."""
    left_s = deadline - asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout(max(0.0, min(patience_s, left_s))):
            return await anext(chunks, b"")
    except TimeoutError as exc:
        if may_end:
            return b""
        limit = f"sent nothing for {patience_s:g} s" if patience_s < left_s else "took too long for one reply"
        raise ProviderError("timeout", f"{service.name} {limit}") from exc
    except Exception as exc:
        if may_end:
            return b""
        raise ProviderError(
            "dropped", one_line(f"the connection to {service.name} broke: {cause(exc)}", service.hide)
        ) from exc


def _listed(reader: Reader, event: Event) -> list[Delta]:
    return list(reader.feed(event))


def _understood(service: Service, read: Callable[[], _T]) -> _T:
    """What a reader makes of the answer; an answer of the wrong shape is garbage, not a bug of ours."""
    try:
        return read()
    except (LookupError, TypeError, AttributeError, ValueError, RecursionError) as exc:
        text = f"{service.name} sent an event of the wrong shape ({type(exc).__name__}: {exc})"
        raise ProviderError("garbage", one_line(text, service.hide)) from exc


async def _excerpt(service: Service, response: Response) -> str:
    body = b""
    chunks = response.iter_bytes()
    deadline = asyncio.get_running_loop().time() + service.clocks.idle_s
    while len(body) < 2000 and (chunk := await _next(service, chunks, 5.0, deadline, may_end=True)):
        body += chunk
    return re.sub(r"<[^>]*>", " ", body[:2000].decode("utf-8", "replace"))


def _error_in(body: str) -> JsonObject | None:
    """The error that a service tells of under a status that means success."""
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return told if isinstance(told, dict) and told.get("error") else None


def cause(exc: BaseException) -> str:
    """The innermost reason that has words: SDKs wrap it in a sentence that says nothing."""
    said = str(exc) or type(exc).__name__
    seen = exc
    while (inner := seen.__cause__ or seen.__context__) is not None:
        seen = inner
        said = str(seen) or said
    # Numbers of name lookups and TLS are not the system's: their own words are better.
    if isinstance(seen, OSError) and seen.errno and not isinstance(seen, ssl.SSLError | socket.gaierror):
        return os.strerror(seen.errno)
    return said
