"""How a session's record begins: its journal, what is never written into it, and the first entry.

The same for a run, a shell and a session that another one starts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import harness
from harness.boot.egress import Outfit
from harness.events import ChildOf, Entry, Event, SessionStarted
from harness.journal.conceal import Concealed
from harness.journal.redact import Redactor, host_secrets
from harness.journal.writer import Journal
from harness.process.recorder import Recorder
from policies.load import digest
from policies.schema import Policy


@dataclass(frozen=True)
class Beginning:
    """What the first entry says, but for the session's name."""

    task: str
    model: str
    policy: Policy
    """In force: nothing tightens or loosens it any more."""
    way_out: Outfit
    image: str
    image_digest: str
    runtime: str | None
    """Instead of the policy's."""
    workspace: Path | None
    parent: ChildOf | None = None
    service: str | None = None

    def entry(self, session: str) -> SessionStarted:
        return SessionStarted(
            session=session,
            task=self.task,
            model=self.model,
            service=self.service,
            policy=self.policy.model_dump(mode="json"),
            policy_digest=digest(self.policy),
            image=self.image,
            image_digest=self.image_digest,
            runtime=self.runtime or self.policy.container.runtime,
            workspace=None if self.workspace is None else str(self.workspace),
            parent=self.parent,
            harness_version=harness.__version__,
            tools=dict(self.way_out.tools),
            sentinels=dict(self.way_out.sentinels),
        )


def redactor(way_out: Outfit, more: Mapping[str, str] = MappingProxyType({})) -> Redactor:
    """Hides the credentials of this machine's environment, and those that the policy binds."""
    return Redactor({**host_secrets(os.environ), **more, **way_out.secrets})


async def begin(
    stack: AsyncExitStack,
    directory: Path,
    beginning: Beginning,
    emit: Callable[[Event], None],
    *entries: Entry,
    hidden: Mapping[str, str] = MappingProxyType({}),
) -> Recorder:
    """The journal, open until the stack is closed, with its first entries on the disk. JournalError.

    `hidden` are secrets by name that the session was not given, and that must not show in it either.
    """
    conceals = redactor(beginning.way_out, hidden)
    journal = Journal.create(directory, redactor=conceals)
    stack.callback(journal.close)
    recorder = Recorder(journal, Concealed(emit, conceals))
    await recorder.record(beginning.entry(directory.name), *entries)
    return recorder
