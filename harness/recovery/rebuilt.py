"""A session as its journal tells it. Values only; `rebuild.py` makes them."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass

from harness.approvals.grants import Grant
from harness.events import (
    CallIntent,
    FileAhead,
    SessionEnded,
    SessionStarted,
)
from harness.messages import Call, Result
from harness.process.session import Session
from harness.process.traffic import Traffic
from policies.schema import Policy


@dataclass(frozen=True)
class Open:
    """A call of the last message that has no result yet."""

    call: Call
    intent: CallIntent | None
    """Without one nothing of it has happened."""
    ahead: FileAhead | None = None
    """Without one it has changed no file by itself."""
    found: str | None = None
    """What the next call found that file to hold (SHA-256); None when nobody has looked since."""
    elsewhere: bool = False
    """It was announced in another sandbox than the last one, and that is gone."""


@dataclass(frozen=True)
class Rebuilt:
    """A session as its journal tells it."""

    started: SessionStarted
    policy: Policy
    model: str
    """The one that it asked last, """
    service: str | None
    """and where."""
    session: Session
    grants: tuple[Grant, ...]
    """Those that stood, except the ones that are kept for good elsewhere."""
    granted: int
    asked: int
    """Grants and questions so far; their names are counted on."""
    connections: int
    """Through the gate so far; they are counted on."""
    traffic: Traffic
    ref: str | None
    """The last sandbox; None when none was opened whole."""
    moved: bool
    """That was opened in place of another, and the model has heard nothing since."""
    settled: Mapping[str, Result]
    """Of the last message's calls, by call id."""
    open: tuple[Open, ...]
    stop: str | None
    """Why the model's last message ended."""
    rested: bool
    """Its last turn was over, and only what the user says begins another."""
    ended: SessionEnded | None
    """Its last entry, if that is an end."""
    checkpoints: Set[int] = frozenset()
    """Numbers of all that it tells of."""

    @property
    def planted(self) -> bool:
        """A fork in which nothing ran yet: its workspace is promised, or made, and no sandbox has had it."""
        return self.started.forked is not None and self.ref is None
