"""`usermode fork`: another session that begins as this one was at a checkpoint, with its files and words.

The source is only read, whether it runs or has ended. Its checkpoints are shared, not copied; the files of
the workspace are made of them when they are first wanted.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import harness
from harness.commands.rewind import refuse_bound
from harness.commands.say import say
from harness.errors import UsageError
from harness.journal.reading import read
from harness.journal.redact import Redactor, host_secrets
from harness.journal.writer import Journal
from harness.recovery.forking import History, history
from harness.recovery.rebuild import policy_of
from harness.store import Store, home
from policies import Policy
from sandbox import owner
from sandbox.checkpoints.damage import refuse_damaged
from sandbox.checkpoints.errors import CheckpointError
from sandbox.checkpoints.packs import sync_directory
from sandbox.checkpoints.planting import promise
from sandbox.checkpoints.share import link
from sandbox.checkpoints.store import DIRECTORY
from sandbox.checkpoints.store import Store as Checkpoints


def fork(reference: str, at: int | None) -> int:
    store = Store(home())
    source = store.session(reference)
    refuse_bound(source)
    past = history(read(source), at)
    policy = policy_of(past.started)
    with _new(store) as directory:
        try:
            _share(source, directory, past, policy)
        except CheckpointError as exc:
            raise UsageError(f"session {source.name} cannot be forked: {exc}") from exc
        sync_directory(directory / DIRECTORY)
        # The commit point: without its journal the directory is no session yet.
        asyncio.run(_begin(directory, past))
    say(f"{directory.name}: forked from {source.name} at checkpoint {past.checkpoint.number}")
    say(f'go on with it: usermode resume {directory.name} "…"')
    return 0


@contextmanager
def _new(store: Store) -> Iterator[Path]:
    """A session's directory, which goes again when what is made in it cannot be finished."""
    directory = store.new_session()
    try:
        owner.claim(directory)
        yield directory
    except BaseException:
        shutil.rmtree(directory)
        raise


def _share(source: Path, directory: Path, past: History, policy: Policy) -> None:
    """The checkpoints that the history tells of, and the workspace as it was at the last of them."""
    with Checkpoints(source) as held:
        held.load(past.checkpoint.number)
    link(source, directory, past.numbers)
    with Checkpoints(directory) as checkpoints:
        target = checkpoints.load(past.checkpoint.number)
        if target.digest != past.checkpoint.digest:
            raise CheckpointError(f"checkpoint {target.number} is not the one that the journal tells of")
        refuse_damaged(checkpoints, target, f"usermode fork {source.name} --at")
    promise(directory, source, target, policy.limits, lasting=True)


async def _begin(directory: Path, past: History) -> None:
    journal = Journal.create(directory, redactor=Redactor(host_secrets(os.environ)))
    try:
        await journal.append_many(past.begin(directory.name, harness.__version__))
    finally:
        journal.close()
