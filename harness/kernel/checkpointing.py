"""Checkpoints of a running session: the workspace is kept while the model thinks, and before anything writes.

The kernel begins one when calls that may write are over, and has it finished before the model's next words
are recorded: no call can start before, and in the journal a checkpoint stands between the results that made
it and the reply that followed. One that cannot be taken is a notice; the session goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

from harness.events import Checkpointed, Entry, Notice
from harness.messages import Call
from harness.process.session import Session
from harness.words import counted
from policies.schema import Limits
from sandbox.checkpoints.errors import CheckpointError, TooMuch
from sandbox.checkpoints.planting import promise
from sandbox.checkpoints.share import link
from sandbox.checkpoints.store import Bounds, Checkpoint, Writer
from sandbox.errors import SandboxError
from sandbox.workspace.quota import bound_to, storage_of
from sandbox.workspace.watchdog import usage

WRITERS = frozenset({"bash", "write", "edit", "sudo", "job", "merge"})
"""Syscalls after which the workspace may be another."""


class Checkpointer(Protocol):
    """Keeps the workspace of a session."""

    def begin(self, *, unsettled: bool) -> None:
        """Begin to keep the workspace as it is now, unless one is going on. Returns at once."""

    async def finished(self) -> tuple[Entry, ...]:
        """What to journal once that is over; nothing when none was begun or nothing had changed.

        Never raises for a checkpoint that could not be taken: that is a notice, once.
        """

    async def snapshot(self, session_dir: Path, limits: Limits) -> None:
        """Promise another session, which has none, a workspace that is this one as it is now; its files are
        made when its sandbox is opened.

        CheckpointError when it cannot be had; what was made until then is the caller's to remove.
        """


def begin_one(checkpoints: Checkpointer | None, session: Session) -> None:
    """While the model thinks nothing is called, so the workspace stands still, but for jobs."""
    if checkpoints is not None and session.written:
        session.written = False
        checkpoints.begin(unsettled=_jobs_run(session))


async def finished(checkpoints: Checkpointer | None) -> tuple[Entry, ...]:
    """To be awaited before any call can start."""
    return () if checkpoints is None else await checkpoints.finished()


async def settled(checkpoints: Checkpointer | None, session: Session) -> tuple[Entry, ...]:
    """The same at the end of a turn: what is begun, and what calls or jobs may have written since."""
    entries = await finished(checkpoints)
    session.written = session.written or _jobs_run(session)
    begin_one(checkpoints, session)
    return (*entries, *await finished(checkpoints))


def _jobs_run(session: Session) -> bool:
    return any(job.runs for job in session.jobs.values())


def may_write(calls: Sequence[tuple[int, Call]]) -> bool:
    return any(call.name in WRITERS for _, call in calls)


class Checkpoints:
    """The checkpointer of a real session. One at a time, in another thread."""

    def __init__(self, writer: Writer, session_dir: Path, limits: Limits) -> None:
        self._writer = writer
        self._session_dir = session_dir
        self._limits = limits
        self._task: asyncio.Task[tuple[Entry, ...]] | None = None
        self._said: set[str] = set()
        self._too_much = False
        self._alone = asyncio.Lock()

    def begin(self, *, unsettled: bool) -> None:
        if self._task is None:
            self._task = asyncio.create_task(asyncio.to_thread(self._take, unsettled), name="checkpoint")

    async def finished(self) -> tuple[Entry, ...]:
        if self._task is None:
            return ()
        # Whoever waits may be cancelled; what is begun is finished all the same.
        came = await asyncio.shield(self._task)
        self._task = None
        return came

    async def snapshot(self, session_dir: Path, limits: Limits) -> None:
        async with self._alone:
            work = asyncio.ensure_future(asyncio.to_thread(self._give, session_dir, limits))
            try:
                await asyncio.shield(work)
            except asyncio.CancelledError:
                await asyncio.wait([work])
                raise

    def _give(self, session_dir: Path, limits: Limits) -> None:
        link(self._session_dir, session_dir, ())
        with Writer(session_dir, bounds(limits)) as writer:
            taken = self._writer.hand_over(writer)
        promise(session_dir, self._session_dir, taken, limits, lasting=False)

    async def close(self) -> None:
        """Wait for the one that is going on, and leave the store."""
        if self._task is not None:
            await asyncio.wait([self._task])
        self._writer.packs.close()

    def _take(self, unsettled: bool) -> tuple[Entry, ...]:
        """Checkpoints that the journal does not tell of, or why there is none."""
        told: list[Entry] = []
        if lost := len(self._writer.packs.damaged):
            told += self._warned(f"{counted(lost, 'pack')} of its checkpoints cannot be read")
        try:
            told += _entries(self._writer.untold())
            if not (self._too_much and self._still_too_much()):
                self._too_much = False
                told += _entries(self._writer.take(unsettled=unsettled))
        except TooMuch as exc:
            self._too_much = True
            text = f"{exc}; until it fits (limits.checkpoint_mb) there is no way back to a later turn"
            told += self._warned(text)
        except (CheckpointError, SandboxError, OSError) as exc:
            told += self._warned(str(exc))
        return tuple(told)

    def _warned(self, text: str) -> list[Entry]:
        """Once each."""
        told: list[Entry] = [] if text in self._said else [_warning(text)]
        self._said.add(text)
        return told

    def _still_too_much(self) -> bool:
        """Cheaper than to read it all once more."""
        grows = storage_of(self._session_dir).grows
        return usage(grows, self._limits.workspace_inodes).bytes > self._limits.checkpoint_mb << 20


class _None:
    """The checkpointer of a session whose store cannot be opened: it says so, and the session goes on."""

    def __init__(self, why: str) -> None:
        self._why = why
        self._said = False

    def begin(self, *, unsettled: bool) -> None:
        pass

    async def finished(self) -> tuple[Entry, ...]:
        said, self._said = self._said, True
        return () if said else (_warning(self._why),)

    async def snapshot(self, session_dir: Path, limits: Limits) -> None:
        raise CheckpointError(self._why)

    async def close(self) -> None:
        pass


def _entries(taken: Checkpoint | None) -> list[Entry]:
    return [] if taken is None else [entry_of(taken)]


def _warning(text: str) -> Notice:
    return Notice(level="warning", code="checkpoint", text=text)


def entry_of(checkpoint: Checkpoint) -> Checkpointed:
    return Checkpointed(
        number=checkpoint.number,
        digest=checkpoint.digest,
        files=checkpoint.files,
        bytes=checkpoint.stored_bytes,
        left_out=checkpoint.left_out,
        unsettled=checkpoint.unsettled,
    )


@asynccontextmanager
async def checkpointing(
    session_dir: Path, limits: Limits, known: Collection[int] = ()
) -> AsyncIterator[Checkpointer | None]:
    """The checkpointer of a session whose sandbox is open; its journal tells of the `known` numbers.

    None where there is no copy to keep (no workspace, or the user's own directory), or none is wanted.
    """
    checkpoints = await asyncio.to_thread(_open, session_dir, limits, known)
    try:
        yield checkpoints
    finally:
        if checkpoints is not None:
            await checkpoints.close()


def bounds(limits: Limits) -> Bounds:
    return Bounds(limits.checkpoint_mb, limits.checkpoints)


def _open(session_dir: Path, limits: Limits, known: Collection[int]) -> Checkpoints | _None | None:
    if not limits.checkpoints or bound_to(session_dir) is not None:
        return None
    try:
        storage_of(session_dir)
    except FileNotFoundError:
        return None
    try:
        return Checkpoints(Writer(session_dir, bounds(limits), known), session_dir, limits)
    except (CheckpointError, OSError) as exc:
        return _None(f"no checkpoints are taken: {exc}")
