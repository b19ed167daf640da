"""What goes over the network: each connection decided, and what it came to."""

from __future__ import annotations

from typing import Annotated, Literal

from harness.messages import VERBATIM, Value


class EgressDecided(Value):
    """A connection through the gate, or one request of it, decided; before anything is sent."""

    kind: Literal["egress"] = "egress"
    connection: int
    protocol: Literal["connect", "http", "https", "socks5", "unknown"]
    host: str
    """Canonical, or what was said where it has no clear reading."""
    port: int
    decision: Literal["allow", "deny"]
    rule: str
    reason: str
    method: str | None = None
    path: str | None = None
    """Without its query."""
    address: str | None = None
    """What was connected to."""
    exec_id: Annotated[str, VERBATIM] | None = None
    """The command whose descent opened it, as the container's init saw it; None where that is unknown."""
    program: str = ""


class EgressClosed(Value):
    kind: Literal["egress_closed"] = "egress_closed"
    connection: int
    bytes_out: int
    bytes_in: int
    duration_s: float
    why: str
