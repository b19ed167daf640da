"""A petition (what the user is asked), an answer to it, and the seam to whoever asks the user.

A petition says facts first: what exactly would happen, as label and value. The reason beside them is the
model's own words and proves nothing. What an answer is good for is the petition's binding, a digest over all
that would happen; it is computed again just before the effect, and an answer to something else is void.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from policies.patterns import is_address

Kind = Literal["call", "network", "root", "secret", "host_path", "limits"]
Scope = Literal["once", "session", "minutes", "always"]
Code = Literal["approved", "denied", "no_approver", "approval_timeout", "approver_error", "changed"]

SAID_CHARS = 200
"""Of the model's reason, shown; all of it is in the journal."""
MAX_MINUTES = 24 * 60
Facts = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Petition:
    """One question. All of it may come from the model or the guest: it is escaped where it is shown."""

    kind: Kind
    subject: str
    """In one line what it is about, without what changes from one try to the next."""
    facts: Facts
    """Label and value, in the order they are shown."""
    said: str
    """The model's reason, whole."""
    bound: Mapping[str, object]
    """All that the answer is bound to, as JSON has it."""
    call_id: str | None = None
    """The call that asks, where it is known."""
    offers: tuple[Scope, ...] = ("once",)
    """The scopes that may be answered, the narrowest first."""
    name: str = ""
    """Its name in this session, `a1`; it gets it when it is asked."""

    @property
    def binding(self) -> str:
        return binding_of(self.kind, self.bound)


def binding_of(kind: Kind, bound: Mapping[str, object]) -> str:
    """SHA-256, in hex, over the canonical JSON of all that is bound."""
    text = json.dumps([kind, bound], sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def network_petition(
    host: str, port: int, said: str, *facts: tuple[str, str], call_id: str | None = None
) -> Petition:
    """A way to one port of one host (canonical); the same petition whoever brings it up."""
    note = (("note", "an address, not a name"),) if is_address(host) else ()
    return Petition(
        kind="network",
        subject=endpoint(host, port),
        facts=(("host", host), ("port", str(port)), *note, *facts),
        said=said,
        bound={"host": host, "port": port},
        call_id=call_id,
        offers=("once", "session", "minutes", "always"),
    )


def endpoint(host: str, port: int) -> str:
    """Host and port as an entry of `network.allow` has them."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@dataclass(frozen=True)
class Reply:
    """What a person said to a petition."""

    granted: bool
    scope: Scope = "once"
    """One of those the petition offers."""
    minutes: float | None = None
    """For the scope `minutes`, at most MAX_MINUTES."""


@dataclass(frozen=True)
class Answer:
    """What came of a petition."""

    granted: bool
    code: Code
    scope: Scope | None = None
    by: str = "nobody"
    """`terminal`, `another terminal`, `grant g1`, or `nobody`."""


class Prompter(Protocol):
    """Asks the person at this session's own terminal."""

    async def ask(self, petition: Petition, *, deadline_s: float) -> Reply:
        """Show the petition and return what the person said.

        Several may be asked at once: showing them one at a time is its affair. It is cancelled when
        the petition is answered elsewhere, or when `deadline_s` seconds are over: then it takes the question
        off the screen and returns nothing. Whatever it raises is a denial with the code `approver_error`.
        """
