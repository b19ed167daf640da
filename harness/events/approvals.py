"""Questions to the user, their answers, and the answers that stand."""

from __future__ import annotations

from typing import Annotated, Literal

from harness.messages import VERBATIM, JsonObject, Value


class ApprovalAsked(Value):
    """A question to the user, written before anybody sees it."""

    kind: Literal["approval_asked"] = "approval_asked"
    approval: Annotated[str, VERBATIM]
    """Its name in this session, e.g. `a1`."""
    what: Literal["call", "network", "root", "secret", "host_path", "limits"]
    facts: tuple[tuple[str, str], ...]
    """What would happen, label and value, in the order they are shown."""
    said: str
    """The model's reason, in its own words; it proves nothing."""
    binding: Annotated[str, VERBATIM]
    """SHA-256 over all that the answer is bound to."""
    call_id: Annotated[str, VERBATIM] | None
    """The call that asks, where it is known."""
    timeout_s: float


class ApprovalAnswered(Value):
    kind: Literal["approval_answered"] = "approval_answered"
    approval: Annotated[str, VERBATIM]
    granted: bool
    code: Literal["approved", "denied", "no_approver", "approval_timeout", "approver_error", "changed"]
    scope: Literal["once", "session", "minutes", "always"] | None
    by: str
    """`terminal`, `another terminal`, `grant g1`, or nobody."""


class GrantChanged(Value):
    """A standing answer: given, ended by the user, or run out."""

    kind: Literal["grant"] = "grant"
    grant: Annotated[str, VERBATIM]
    change: Literal["given", "revoked", "expired"]
    what: str
    """In words, for people."""
    binding: Annotated[str, VERBATIM]
    scope: Literal["session", "minutes", "always"]
    until: float | None
    """Seconds since the epoch, for `minutes`."""
    petition: Literal["call", "network", "root", "secret", "host_path", "limits"] | None = None
    """What was asked for."""
    bound: JsonObject | None = None
    """All that the answer is bound to, so that a resumed session has it again: `binding` is its digest."""
