"""Booting children: wired as their parent is, over a snapshot of its workspace, within its budget.

A child's model and engine are its parent's. Its policy, journal, container, gate, grants and interrupt are
its own; what it asks the user goes through its parent, marked as the child's. It ends before the call that
started it does.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

from harness.approvals.petition import Petition, Reply
from harness.approvals.service import Approvals
from harness.boot.beginning import Beginning, begin
from harness.boot.egress import outfit
from harness.boot.parts import Start
from harness.errors import HarnessError, JournalError
from harness.events import (
    CallOutcome,
    CallStarted,
    Checkpointed,
    ChildOf,
    ChildStarted,
    EgressClosed,
    Event,
    Notice,
    SessionEnded,
)
from harness.journal.record import FILE
from harness.kernel.checkpointing import Checkpointer
from harness.process.children import Errand, Returned
from harness.process.interrupt import Interrupt
from harness.process.session import Child, Session
from harness.process.traffic import Traffic
from harness.providers.models import for_child
from harness.recovery.opening import opened
from harness.store import Store
from harness.syscalls.base import Refused
from harness.words import bounded, summary
from sandbox import owner
from sandbox.checkpoints.errors import CheckpointError
from sandbox.egress import Gate
from sandbox.errors import SandboxError
from sandbox.workspace.quota import release, remove

ENDING_S = 10.0
"""For a child to end in good order once its call is cancelled; then it is ended at once."""
INTERRUPTED = "the harness ended while it ran"
_NOT_TO_BE_HAD = (CheckpointError, SandboxError, HarnessError, OSError, ValueError)
Live = Callable[[AsyncExitStack, Start], Awaitable[SessionEnded]]


class Brood:
    """A `Children`: starts the children of one session."""

    def __init__(
        self,
        live: Live,
        start: Start,
        approvals: Approvals,
        gate: Gate | None,
        checkpoints: Checkpointer | None,
    ) -> None:
        self._live, self._start, self._gate = live, start, gate
        self._approvals, self._checkpoints = approvals, checkpoints

    def directory(self, child: Child) -> Path:
        return self._start.directory.parent / child.session

    async def run(self, errand: Errand) -> Returned:
        started = _Started(self._start, errand)
        async with AsyncExitStack() as stack:
            directory = Store(self._start.directory.parent.parent).new_session()
            try:
                start = await self._prepared(stack, errand, directory, started)
            except BaseException as exc:
                # Without a journal it is no session: nothing of it is left.
                gone = release if (directory / FILE).exists() else _forget
                await asyncio.to_thread(gone, directory)
                if not isinstance(exc, _NOT_TO_BE_HAD) or (
                    isinstance(exc, JournalError) and exc.code in ("io", "closed")
                ):
                    raise
                raise Refused("failed", f"the child {errand.name} could not be started: {exc}") from exc
            ended = await self._lived(stack, start)
        # What it changed is in its checkpoints; the tree itself is needed by nobody.
        await asyncio.to_thread(remove, directory)
        return started.returned(start.session, directory.name, ended)

    async def _prepared(
        self, stack: AsyncExitStack, errand: Errand, directory: Path, started: _Started
    ) -> Start:
        """All that the child's session needs, its journal open. What cannot be had is raised."""
        parent = self._start
        child = Child(errand.name, directory.name, errand.call_id, errand.mergeable)
        parent.session.children[child.name] = child
        limits = errand.policy.limits
        await parent.recorder.record(
            ChildStarted(
                name=child.name,
                session=child.session,
                call_id=errand.call_id,
                children=limits.children,
                mergeable=child.mergeable,
            )
        )
        owner.claim(directory)
        if parent.options.workspace is not None:
            if self._checkpoints is None:
                raise CheckpointError("no checkpoints are taken of this workspace, so it cannot be shared")
            await self._checkpoints.snapshot(directory, limits)
        _, way_out = await outfit(errand.policy, os.environ)
        way_out = replace(way_out, tools=parent.way_out.tools, above=self._gate)
        line = f"{parent.line}/{errand.name}".removeprefix("/")
        beginning = Beginning(
            errand.task, parent.options.model, errand.policy, way_out, parent.image, parent.image_digest,
            parent.options.runtime, parent.options.workspace,
            ChildOf(session=parent.directory.name, call_id=errand.call_id, name=line),
            parent.options.base_url,
        )  # fmt: skip
        recorder = await begin(stack, directory, beginning, started.watch, hidden=parent.way_out.secrets)
        options = replace(
            parent.options,
            task=errand.task,
            policy=errand.policy,
            prompter=_Forward(self._approvals, child, errand) if self._approvals.answerable else None,
            talk=None,
        )
        return replace(
            parent,
            options=options,
            policy=errand.policy,
            way_out=way_out,
            provider=for_child(parent.provider, line, errand.call_id),
            recorder=recorder,
            interrupt=Interrupt(),
            session=Session(errand.budget),
            memory=None,
            kept=(),
            directory=directory,
            past=None,
            line=line,
        )

    async def _lived(self, stack: AsyncExitStack, start: Start) -> SessionEnded | None:
        """Its life; None when it had to be ended at once. Cancelled, it brings it to its end first."""
        life = asyncio.ensure_future(self._live(stack, start))
        try:
            return await asyncio.shield(life)
        except asyncio.CancelledError:
            start.interrupt.cancel_turn()
            try:
                await asyncio.wait([life], timeout=ENDING_S)
            finally:
                if not life.done():
                    life.cancel()
                    await asyncio.wait([life])
            return None if life.cancelled() else life.result()

    async def collect(self, child: Child) -> Returned:
        directory = self.directory(child)
        await self._start.engine.abandon(directory)
        try:
            journal, past = await asyncio.to_thread(opened, directory)
        except JournalError as exc:
            why = f"{INTERRUPTED}, and its journal cannot be read: {exc}"
            if exc.code == "missing" and directory.exists():
                why = "the harness ended before it began"
            return Returned(child.session, "interrupted", why)
        budget, traffic, ended = past.session.budget, past.traffic, past.ended
        try:
            waited_for = {one.call.id for one in past.open}
            for grandchild in past.session.children.values():
                returned = await self.collect(grandchild)
                if grandchild.call_id in waited_for:  # else it is counted in its call's outcome
                    budget.absorb(returned.turns, returned.usage, returned.cost_usd)
                    traffic += returned.traffic
            if ended is None:
                ended = SessionEnded(
                    status="killed", exit_code=130, reason=INTERRUPTED, turns=budget.turns,
                    usage=budget.usage, changes=0,
                )  # fmt: skip
                await journal.append(ended)
        except JournalError as exc:
            return Returned(child.session, "interrupted", f"{INTERRUPTED}: {exc}")
        finally:
            journal.close()
        # Also where that end was written by a harness that was killed in turn.
        cut_short = ended.status == "killed"
        return Returned(
            child.session, "interrupted" if cut_short else ended.status, ended.reason,
            _last_words(past.session), budget.turns, budget.usage, budget.cost_usd, traffic,
            "what it did after its last checkpoint" if cut_short else "",
        )  # fmt: skip


def _forget(directory: Path) -> None:
    remove(directory)
    shutil.rmtree(directory)


def _last_words(session: Session) -> str:
    last = session.messages[-1] if session.messages else None
    return last.text if last is not None and last.role == "assistant" else ""


class _Started:
    """A child as its parent's screen sees it, and whether its last checkpoint is whole."""

    def __init__(self, start: Start, errand: Errand) -> None:
        self._emit = errand.on_output
        self._unkept = ""
        self._steps = 0
        self._traffic = Traffic()

    def watch(self, event: Event) -> None:
        match event:
            case CallStarted():
                self._steps += 1
                if self._emit is not None:
                    self._emit(f"#{self._steps} {bounded(summary(event.call))}\n", self._steps)
            case EgressClosed() | CallOutcome():
                self._traffic = self._traffic.after(event)
            case Checkpointed():
                self._unkept = ""
            case Notice(code="checkpoint"):
                self._unkept = event.text

    def returned(self, session: Session, name: str, ended: SessionEnded | None) -> Returned:
        budget = session.budget
        spent = (_last_words(session), budget.turns, budget.usage, budget.cost_usd, self._traffic)
        if ended is None:
            unkept = "what it did after its last checkpoint, since it was ended at once"
            return Returned(name, "interrupted", "it was ended at once", *spent, unkept)
        return Returned(name, ended.status, ended.reason, *spent, self._unkept)


class _Forward:
    """A child's `Prompter`: what it asks is asked by its parent, as the child's, and holds for this once."""

    def __init__(self, approvals: Approvals, child: Child, errand: Errand) -> None:
        self._approvals, self._child, self._errand = approvals, child, errand

    async def ask(self, petition: Petition, *, deadline_s: float) -> Reply:
        who = f"child {self._child.name}, session {self._child.session}"
        asked = replace(
            petition,
            subject=f"{petition.subject} ({who})",
            facts=(("asked by", who), *petition.facts),
            # Bound to the child: no answer that stands for its parent speaks for it, nor the other way.
            bound={**petition.bound, "child": self._child.session},
            call_id=self._errand.call_id,
            offers=("once",),
            name="",
        )
        approval = await self._approvals.ask(asked)
        return Reply(approval.answer.granted and await approval.redeem(), petition.offers[0])
