"""Booting a session that was left: wired as by `boot`, with what the journal tells in place of options.

Nothing is decided anew: the policy, the image and the workspace are those that were journalled.
"""

from __future__ import annotations

import asyncio
import getpass
import os
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import harness
from harness.approvals.petition import Prompter
from harness.approvals.remembered import Remembered
from harness.boot.beginning import redactor
from harness.boot.egress import outfit
from harness.boot.live import live
from harness.boot.machine import Machine, docker_machine
from harness.boot.parts import RunOptions, Start, price_of
from harness.control.desk import Talk
from harness.errors import UsageError
from harness.events import Event, Notice, Resumed, SessionEnded
from harness.journal.conceal import Concealed
from harness.journal.writer import Journal
from harness.process.interrupt import Interrupt
from harness.process.recorder import Recorder
from harness.providers.models import open_provider, service, settled
from harness.recovery.opening import opened
from harness.recovery.rebuilt import Rebuilt
from harness.recovery.takeup import finished
from harness.store import Store, home, keep_apart
from sandbox.checkpoints.rewind import unfinished


@dataclass(frozen=True)
class ResumeOptions:
    session: str
    """Its id, the beginning of one, or `last`."""
    message: str = ""
    """Said to the model once what was under way is done."""
    model: str = ""
    """Instead of the journalled one."""
    base_url: str | None = None
    home: Path | None = None
    watched: bool = True
    prompter: Prompter | None = None
    talk: Talk | None = None


async def resume(
    options: ResumeOptions,
    emit: Callable[[Event], None],
    interrupt: Interrupt,
    *,
    machine: Callable[[], AbstractAsyncContextManager[Machine]] = docker_machine,
) -> SessionEnded:
    """Go on with a session to its next end. As `boot.run`; JournalError too when another process has it open.

    Until the journal says `Resumed` nothing is touched: a full disk leaves the session as it was.
    """
    async with AsyncExitStack() as stack:
        # The journal: whoever has it open has the session.
        where = options.home or home()
        directory = Store(where).session(options.session)
        journal, past = await asyncio.to_thread(opened, directory)
        stack.callback(journal.close)
        if (parent := past.started.parent) is not None:
            raise UsageError(
                f"session {directory.name} was the child {parent.name} of {parent.session} and ended with "
                f"it; another one can go on from there: usermode fork {directory.name}"
            )
        inbox = past.session.inbox
        if finished(past) and not (len(inbox) or options.message or options.talk):
            _refuse_idle(directory, past)
        if (number := unfinished(directory)) is not None:
            raise UsageError(
                f"going back to checkpoint {number} was cut short; finish it first, or go back to another: "
                f"usermode rewind {directory.name} --to {number}"
            )
        # What it ran on, as far as that is the host's to give again.
        policy, way_out = await outfit(past.policy, os.environ, past.started)
        journal.redactor = redactor(way_out)
        workspace = None if past.started.workspace is None else Path(past.started.workspace)
        keep_apart(workspace, where)
        memory = Remembered(where, policy)
        kept = await asyncio.to_thread(memory.load)
        model = settled(options.model) if options.model else past.model
        # What was said to one service goes to no other that nobody named.
        same = model.partition(":")[0] == past.model.partition(":")[0]
        url = service(model, options.base_url or (past.service if same else None))
        if (model, url) != (past.model, past.service):
            past.session.memory.window = None  # it was another one's
        provider = open_provider(model, base_url=url)
        stack.push_async_callback(provider.aclose)
        price = price_of(model, policy)
        engine = await stack.enter_async_context(machine())
        # From here on it is this process that goes on with it.
        recorder = Recorder(journal, Concealed(emit, journal.redactor))
        by = f"{getpass.getuser()}, process {os.getpid()}"
        resumed = Resumed(by=by, model=model, service=url, harness_version=harness.__version__)
        said = [inbox.entry(options.message, "request", "terminal")] if options.message else []
        # With one flush, and the message last: who died amid it was told nothing and says it again.
        await recorder.record(resumed, *_torn(journal), *said)
        for entry in said:
            inbox.feed(entry)
        run = RunOptions(
            task="",
            model=model,
            policy=policy,
            workspace=workspace,
            image=past.started.image,
            runtime="runsc" if past.started.runtime == "runsc" else "runc",
            base_url=url,
            home=where,
            watched=options.watched,
            prompter=options.prompter,
            talk=options.talk,
        )
        start = Start(
            run, policy, way_out, provider, price, engine, recorder, interrupt,
            past.session, memory, kept, directory, past.started.image, past.started.image_digest, past,
        )  # fmt: skip
        return await live(stack, start)


def _refuse_idle(directory: Path, past: Rebuilt) -> None:
    """UsageError for a session that waits for its user. One that only lacks its last entry gets that."""
    if past.planted:
        how = "was forked at the end of a turn"
    elif past.ended is not None:
        how = f"has ended ({past.ended.status})"
    elif past.rested:
        how = "is between two turns"
    else:
        return
    name = directory.name
    raise UsageError(
        f"session {name} {how}; say what to do next, or talk with it: usermode chat --resume {name}"
    )


def _torn(journal: Journal) -> list[Notice]:
    torn = journal.torn
    if torn is None:
        return []
    text = f"the journal's end was torn: {torn.size} bytes of an entry that never happened were cut off"
    return [Notice(level="warning", code="torn", text=f"{text} and kept in {torn.kept.name}")]
