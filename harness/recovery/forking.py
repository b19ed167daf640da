"""Forking: what of a session's journal another one begins with, up to one of its checkpoints. Pure.

Copied is what was said and done, as far as it is in force there: a part that was taken back before is left
out. What was allowed (answers, grants, higher limits) and what was spent stay the source's own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from harness.errors import UsageError
from harness.events import (
    CallIntent,
    CallOutcome,
    Checkpointed,
    ChildStarted,
    Compacted,
    Entry,
    ForkedFrom,
    MessageAdded,
    PagesEvicted,
    Resumed,
    Rewound,
    SessionStarted,
    TurnDone,
    WorkspaceCopied,
)
from harness.journal.record import Record
from harness.journal.timeline import Timeline

_COPIED = (
    WorkspaceCopied,
    MessageAdded,
    CallIntent,
    CallOutcome,
    PagesEvicted,
    Compacted,
    Checkpointed,
    ChildStarted,
    TurnDone,
)


@dataclass(frozen=True)
class History:
    """The beginning of a session up to a checkpoint."""

    started: SessionStarted
    checkpoint: Checkpointed
    head: str
    """The hash of the source's line that tells of the checkpoint: it vouches for all lines before."""
    entries: tuple[Entry, ...]
    numbers: frozenset[int]
    """The checkpoints among them."""

    def begin(self, session: str, version: str) -> tuple[Entry, ...]:
        """The entries of the new session."""
        forked = ForkedFrom(
            session=self.started.session,
            checkpoint=self.checkpoint.number,
            digest=self.checkpoint.digest,
            head=self.head,
            entries=len(self.entries),
        )
        changed = {"session": session, "harness_version": version, "forked": forked, "parent": None}
        return (self.started.model_copy(update=changed), *self.entries)


def history(records: Iterable[Record], number: int | None) -> History:
    """What is in force at this checkpoint, or at the last one, which may be one that it was taken back to.
    UsageError when there is none.
    """
    started: SessionStarted | None = None
    timeline: Timeline[Entry] = Timeline()
    found: tuple[Checkpointed, str] | None = None
    passed: dict[int, tuple[Checkpointed, str]] = {}
    kept: int | None = None
    over: dict[int, TurnDone] = {}
    for record in records:
        entry = record.entry
        if isinstance(entry, MessageAdded | CallOutcome | Checkpointed | Rewound):
            if found is not None and found[0].number == number:
                break
            kept = None
        if isinstance(entry, SessionStarted):
            started = entry
        elif isinstance(entry, Resumed) and started is not None:
            started = started.model_copy(update={"model": entry.model, "service": entry.service})
        elif isinstance(entry, Rewound):
            timeline.back(entry.to)
            found = passed[entry.to]
        elif isinstance(entry, _COPIED):
            timeline.add(entry)
        if isinstance(entry, Checkpointed):
            timeline.mark(entry.number)
            found = passed[entry.number] = entry, record.hash
            kept = entry.number
        elif isinstance(entry, TurnDone) and kept is not None:
            over[kept] = entry  # A turn is over once its files are kept.
    if started is None:
        raise UsageError("the session has not begun; there is nothing to fork")
    if found is None or number not in (None, found[0].number):
        which = "any checkpoint" if number is None else f"checkpoint {number}"
        raise UsageError(f"the journal of session {started.session} does not know of {which}")
    at = found[0].number
    entries = (*timeline.back(at), *([over[at]] if at in over else []))
    numbers = frozenset(entry.number for entry in entries if isinstance(entry, Checkpointed))
    return History(started, *found, entries, numbers)
