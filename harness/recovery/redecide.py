"""A recorded session decided again: what another policy would say of each call and each connection."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from harness.events import CallIntent, CallOutcome, Checkpointed, EgressDecided, Rewound
from harness.journal.record import Record
from harness.process.session import WORKSPACE
from harness.syscalls.arguments import fetch
from harness.syscalls.base import Refused
from harness.syscalls.table import TABLE
from harness.words import summary
from policies.decide import Decision, Request, decide
from policies.egress import decide_connection
from policies.schema import Policy


@dataclass(frozen=True)
class Redecided:
    """Texts are the session's and not safe to print as they are."""

    seq: int
    """Of the journal's entry."""
    what: str
    was: str
    was_by: str
    now: Decision

    @property
    def differs(self) -> bool:
        if self.was_by.startswith("grant") and self.now.action == "ask":
            return False  # The user's answer allowed it then, and would be needed again.
        return self.was != self.now.action


def redecide(records: Iterable[Record], policy: Policy) -> Iterator[Redecided]:
    """Everything that was decided, in the order of the journal; calls that were malformed are left out."""
    cwd, marks = WORKSPACE, dict[int, str]()
    for record in records:
        match record.entry:
            case CallOutcome(details=details):
                moved = details.get("cwd")
                cwd = moved if isinstance(moved, str) else cwd
            case Checkpointed(number=number):
                marks[number] = cwd
            case Rewound(to=number):
                cwd = marks.get(number, cwd)
            case CallIntent() as intent:
                if (request := _request(intent, cwd)) is not None:
                    now = decide(policy, request)
                    yield Redecided(record.seq, summary(intent.call), intent.decision, intent.rule, now)
            case EgressDecided(host=host, port=port) as egress:
                what = f"connect to {host} port {port}"
                now = decide_connection(policy, host, port)
                yield Redecided(record.seq, what, egress.decision, egress.rule, now)
            case _:
                pass


def _request(intent: CallIntent, cwd: str) -> Request | None:
    """What rules were asked about; None for a call of which nothing was decided."""
    try:
        row, arguments = fetch(intent.call, TABLE)
        access = row.access(arguments, cwd)
    except Refused:
        return None
    return Request(intent.call.name, command=access.command, path=access.path, host=access.host)
