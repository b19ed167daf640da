"""What the gate tells about: an attempt, what was decided, and how a connection ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from policies.decide import Decision
from sandbox.protocol import Origin

Spoken = Literal["connect", "http", "https", "socks5", "unknown"]
SHOWN_MAX = 300


@dataclass(frozen=True)
class Attempt:
    """A connection that is asked for, or one request of it."""

    connection: int
    """Counts from 1 in a session."""
    protocol: Spoken
    host: str
    """Canonical; or, where it has no clear reading, what was said, made printable."""
    port: int
    """0 where none could be read."""
    origin: Origin
    """Who inside asks."""
    method: str | None = None
    path: str | None = None
    """Without its query."""


@dataclass(frozen=True)
class Decided:
    """Reported before anything is sent. Of one connection there may be several: one a request, and a refusal
    of what turns out to be spoken on it."""

    attempt: Attempt
    decision: Literal["allow", "deny"]
    rule: str
    reason: str
    address: str | None = None
    """What will be connected to; several are tried in this order."""


@dataclass(frozen=True)
class Closed:
    """The end of a connection of which something was allowed."""

    connection: int
    bytes_out: int
    """From inside to the other side."""
    bytes_in: int
    duration_s: float
    why: str


Report = Callable[[Decided | Closed], Awaitable[None]]
"""Raising closes the connection: what cannot be recorded does not happen."""
Ask = Callable[[Attempt, Decision], Awaitable[bool]]
"""Asks the user. Only True is a yes."""


async def unheard(told: Decided | Closed) -> None:
    """For a gate that nobody listens to."""


async def nobody(attempt: Attempt, decision: Decision) -> bool:
    """For a gate without anyone to ask."""
    return False


def printable(said: bytes | str) -> str:
    """Guest text for a report: bounded, on one line, all of it visible."""
    text = said.decode("latin-1") if isinstance(said, bytes) else said
    shown = text[:SHOWN_MAX].encode("unicode_escape").decode("ascii")
    return shown[:SHOWN_MAX]
