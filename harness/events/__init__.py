"""Events: what happens in a session, in one vocabulary for the journal, `--json` and the screen.

Entries are journalled; Signals are not (they would only repeat what an entry says whole). Both carry `kind`.
A new optional field keeps VERSION; anything else raises it. Each subject has its file, and every
word is imported from here.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, TypeAdapter

from harness.events.approvals import ApprovalAnswered, ApprovalAsked, GrantChanged
from harness.events.calls import CallIntent, CallOutcome, FileAhead
from harness.events.conversation import MessageAdded, Notice, PromptDropped, PromptQueued, TurnDone
from harness.events.egress import EgressClosed, EgressDecided
from harness.events.memory import Compacted, EvictedPage, PagesEvicted, WindowLearned
from harness.events.session import (
    ChildOf,
    ChildStarted,
    ForkedFrom,
    OpenCall,
    PostureMeasured,
    Resumed,
    SandboxOpened,
    SessionEnded,
    SessionStarted,
    TakenUp,
    WorkspaceCopied,
)
from harness.events.signals import BudgetChanged, CallOutput, CallStarted, TextStreamed
from harness.events.undo import Checkpointed, Rewound

__all__ = [
    "ENTRY",
    "EVENT",
    "VERSION",
    "ApprovalAnswered",
    "ApprovalAsked",
    "BudgetChanged",
    "CallIntent",
    "CallOutcome",
    "CallOutput",
    "CallStarted",
    "Checkpointed",
    "ChildOf",
    "ChildStarted",
    "Compacted",
    "EgressClosed",
    "EgressDecided",
    "Entry",
    "Event",
    "EvictedPage",
    "FileAhead",
    "ForkedFrom",
    "GrantChanged",
    "MessageAdded",
    "Notice",
    "OpenCall",
    "PagesEvicted",
    "PostureMeasured",
    "PromptDropped",
    "PromptQueued",
    "Resumed",
    "Rewound",
    "SandboxOpened",
    "SessionEnded",
    "SessionStarted",
    "Signal",
    "TakenUp",
    "TextStreamed",
    "TurnDone",
    "WindowLearned",
    "WorkspaceCopied",
]

VERSION = 1

Entry = (
    SessionStarted
    | WorkspaceCopied
    | SandboxOpened
    | MessageAdded
    | PromptQueued
    | PromptDropped
    | TurnDone
    | CallIntent
    | FileAhead
    | CallOutcome
    | Notice
    | PagesEvicted
    | Compacted
    | WindowLearned
    | Checkpointed
    | Rewound
    | ChildStarted
    | PostureMeasured
    | ApprovalAsked
    | ApprovalAnswered
    | GrantChanged
    | EgressDecided
    | EgressClosed
    | Resumed
    | TakenUp
    | SessionEnded
)

Signal = TextStreamed | CallStarted | CallOutput | BudgetChanged
Event = Entry | Signal

ENTRY: TypeAdapter[Entry] = TypeAdapter(Annotated[Entry, Field(discriminator="kind")])
EVENT: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="kind")])
