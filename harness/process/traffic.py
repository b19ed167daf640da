"""Traffic: the bytes that went through a session's gate, as its journal tells them."""

from __future__ import annotations

from dataclasses import dataclass

from harness.events import CallOutcome, EgressClosed, Event
from harness.messages import JsonObject


@dataclass(frozen=True)
class Traffic:
    """Its children's included. What a connection carried that was open at a crash is nowhere written down."""

    bytes_out: int = 0
    bytes_in: int = 0

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(self.bytes_out + other.bytes_out, self.bytes_in + other.bytes_in)

    def after(self, event: Event) -> Traffic:
        """With what one more event tells: a connection that ended, or a child."""
        match event:
            case EgressClosed():
                return self + Traffic(event.bytes_out, event.bytes_in)
            case CallOutcome() if isinstance(spent := event.details.get("spent"), dict):
                return self + _told(spent)
        return self


def _told(spent: JsonObject) -> Traffic:
    out, into = spent.get("bytes_out"), spent.get("bytes_in")
    return Traffic(out if isinstance(out, int) else 0, into if isinstance(into, int) else 0)
