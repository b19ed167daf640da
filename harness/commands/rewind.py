"""`usermode rewind`: a session that has ended is taken back to a checkpoint, its files and what was said.

The user's own directory is not touched: `diff` and `apply` show and take what the session's copy then holds.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

from harness.commands.say import say
from harness.errors import JournalError, UsageError
from harness.events import Checkpointed, Entry, Rewound, SessionStarted
from harness.journal.reading import read
from harness.journal.redact import Redactor, host_secrets
from harness.journal.writer import Journal
from harness.kernel.checkpointing import bounds, entry_of
from harness.store import Store, home
from harness.words import counted
from policies import Policy
from sandbox.checkpoints.errors import CheckpointError, TooMuch
from sandbox.checkpoints.planting import plant
from sandbox.checkpoints.rewind import bring_back
from sandbox.checkpoints.store import Checkpoint, Writer
from sandbox.checkpoints.store import Store as Checkpoints
from sandbox.engine import Engine
from sandbox.lifecycle.reaper import reap
from sandbox.lifecycle.record import RECORD
from sandbox.workspace import manifest
from sandbox.workspace.quota import bound_to


def rewind(reference: str, to: int) -> int:
    store = Store(home())
    directory = store.session(reference)
    refuse_bound(directory)
    try:
        journal = Journal.open(directory, redactor=Redactor(host_secrets(os.environ)))
    except JournalError as exc:
        if exc.code != "locked":
            raise
        raise UsageError(f"{exc}; `usermode kill {directory.name}` ends it") from exc
    try:
        entries = asyncio.run(_rewind(store, directory, journal, to))
    finally:
        journal.close()
    rewound = entries[-1]
    assert isinstance(rewound, Rewound)
    for kept in entries[:-1]:
        assert isinstance(kept, Checkpointed)
        say(f"{directory.name}: what it held until now is checkpoint {kept.number}")
    say(
        f"{directory.name}: taken back to checkpoint {to}, {counted(rewound.removed, 'name')} taken away, "
        f"{counted(rewound.made, 'file')} written; your directory is as it was"
    )
    return 0


async def _rewind(store: Store, directory: Path, journal: Journal, to: int) -> list[Entry]:
    started, known = await asyncio.to_thread(journalled, directory)
    if (directory / RECORD).exists():
        # Its harness died: a container that it left would go on writing.
        await _end(store, directory)
    limits = Policy.model_validate(started.policy).limits
    try:
        Checkpoints(directory).packs.close()  # taking the first one now would help nobody
        with Writer(directory, bounds(limits), known) as writer:
            target = checked(writer, known, to)
            await asyncio.to_thread(plant, directory)
            # What there is now is kept first, so that going back can be taken back.
            untold = writer.untold()
            now = await asyncio.to_thread(_present, writer, to)
            kept: list[Entry] = [entry_of(one) for one in (untold, now) if one is not None]
            if kept:
                await journal.append_many(kept)
            restored = await asyncio.to_thread(bring_back, directory, writer, target)
            rewound = Rewound(to=to, digest=target.digest, removed=restored.removed, made=restored.made)
            # The commit point: past here the conversation is cut as well.
            await journal.append(rewound)
            await asyncio.to_thread(restored.done)
    except CheckpointError as exc:
        if isinstance(exc.__cause__, FileNotFoundError) and manifest.exists(directory):
            raise UsageError(manifest.why_gone(directory)) from exc
        raise UsageError(f"session {directory.name}: {exc}") from exc
    return [*kept, rewound]


def _present(writer: Writer, to: int) -> Checkpoint | None:
    try:
        return writer.take(keep=(to,))
    except TooMuch as exc:
        # Going back is the way out of that; it is only not to be taken back.
        say(f"what it holds now is not kept: {exc}")
        return None


def refuse_bound(directory: Path) -> None:
    if bound_to(directory) is not None:
        raise UsageError(
            f"session {directory.name} worked on your own directory (workspace mode bind): "
            "no checkpoints are taken of that"
        )


def journalled(directory: Path) -> tuple[SessionStarted, dict[int, Checkpointed]]:
    """How the session began, and its checkpoints as the journal has them, the one in force last."""
    started: SessionStarted | None = None
    known: dict[int, Checkpointed] = {}
    for record in read(directory):
        if isinstance(record.entry, SessionStarted):
            started = record.entry
        elif isinstance(record.entry, Checkpointed):
            known[record.entry.number] = record.entry
        elif isinstance(record.entry, Rewound) and record.entry.to in known:
            known[record.entry.to] = known.pop(record.entry.to)
    if started is None:
        raise UsageError(f"session {directory.name} has not begun; there is nothing to go back to")
    return started, known


def checked(checkpoints: Checkpoints, known: Mapping[int, Checkpointed], number: int) -> Checkpoint:
    """The checkpoint of this number, the same that the journal tells of."""
    found = checkpoints.load(number)
    if number not in known:
        raise CheckpointError(
            f"the journal does not know of checkpoint {number}; `usermode log` shows those it has"
        )
    if known[number].digest != found.digest:
        raise CheckpointError(f"checkpoint {number} is not the one that the journal tells of")
    return found


async def _end(store: Store, directory: Path) -> None:
    engine = await Engine.connect()
    try:
        await reap(engine, store.sessions, session=directory.name)
    finally:
        await engine.close()
    (directory / RECORD).unlink(missing_ok=True)
