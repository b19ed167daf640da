"""The answers of a session (grants), folded from its journal: those that stand, and how many there were."""

from __future__ import annotations

from datetime import datetime

from harness.approvals.grants import Grant
from harness.approvals.petition import binding_of
from harness.events import GrantChanged
from harness.journal.record import Record


class Answers:
    """Feed it the records that concern it, in their order."""

    def __init__(self) -> None:
        self.asked = 0
        """Questions so far."""
        self.given = 0
        """Grants so far, also those that stand no longer."""
        self._grants: dict[str, Grant] = {}

    @property
    def standing(self) -> tuple[Grant, ...]:
        """All but those that are kept for good elsewhere."""
        return tuple(grant for grant in self._grants.values() if grant.scope != "always")

    def feed(self, record: Record) -> None:
        entry = record.entry
        match entry.kind:
            case "approval_asked":
                self.asked += 1
            case "grant" if entry.change == "given":
                self.given += 1
                self._given(entry, record.ts)
            case "grant":
                self._grants.pop(entry.grant, None)

    def _given(self, entry: GrantChanged, ts: str) -> None:
        # Redacted, it is bound to something else: then it is not given again, and the user is asked.
        if entry.petition is None or entry.bound is None:
            return
        if binding_of(entry.petition, entry.bound) == entry.binding:
            at = datetime.fromisoformat(ts).timestamp()
            self._grants[entry.grant] = Grant(
                entry.grant, entry.petition, entry.what, entry.bound, entry.scope, entry.until, given=at
            )
