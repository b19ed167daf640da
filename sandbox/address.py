"""Where an engine listens, as whoever opens a connection of its own to it needs to know."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from sandbox.errors import EngineMissing


@dataclass(frozen=True)
class EngineAddress:
    """Where the engine listens, for whoever opens a connection of its own to it."""

    scheme: Literal["unix", "tcp"]
    path: str = ""
    """Of the socket, for `unix`."""
    host: str = ""
    port: int = 0
    tls: ssl.SSLContext | None = None


def address_of(url: str, tls: Any) -> EngineAddress:
    """From the SDK's normalised URL (`http+unix:///run/docker.sock`, `tcp://host:port`)."""
    parts = urlsplit(url)
    if parts.scheme in ("unix", "http+unix"):
        return EngineAddress("unix", path=f"/{parts.netloc}{parts.path}" if parts.netloc else parts.path)
    if parts.scheme not in ("tcp", "http", "https") or not parts.hostname:
        raise EngineMissing(f"an engine at {url!r} cannot be used: only unix:// and tcp:// are")
    context = None
    if tls:
        context = ssl.create_default_context(cafile=tls.ca_cert or None)
        if not tls.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if tls.cert:
            context.load_cert_chain(*tls.cert)
    return EngineAddress("tcp", host=parts.hostname, port=parts.port or (2376 if tls else 2375), tls=context)
