"""`usermode kill`: end a session that another process runs, and its container."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from harness.commands.say import say
from harness.errors import HarnessError, UsageError
from harness.events import ChildStarted
from harness.journal.lock import LOCK, locked
from harness.journal.reading import read
from harness.journal.record import FILE
from harness.rows import row_of
from harness.store import Store, home
from sandbox.engine import Engine
from sandbox.lifecycle.reaper import reap

TERM_S = 15.0
"""For a session to end by itself, its container's removal included."""
KILL_S = 5.0
LOOK_S = 0.05


def kill(reference: str) -> int:
    store = Store(home())
    directory = store.session(reference)
    if parent := row_of(directory).parent:
        raise UsageError(f"session {directory.name} is a child of {parent}, and ends with it: kill that one")
    return asyncio.run(_kill(directory))


def _children(directory: Path) -> Iterator[str]:
    """The sessions that this one started, and they in turn."""
    for record in read(directory):
        if isinstance(record.entry, ChildStarted):
            yield record.entry.session
            if (directory.parent / record.entry.session / FILE).exists():
                yield from _children(directory.parent / record.entry.session)


async def _kill(directory: Path) -> int:
    ended = await _end_process(directory)
    engine = await Engine.connect()
    try:
        # Also where its harness was killed and the container waits for somebody to go on with it.
        left = await reap(engine, directory.parent, session=directory.name)
        for child in await asyncio.to_thread(lambda: list(_children(directory))):
            left += await reap(engine, directory.parent, session=child)
    finally:
        await engine.close()
    say(f"{directory.name}: ended" if ended or left else f"{directory.name}: was not running")
    return 0


async def _end_process(directory: Path) -> bool:
    """Ask the process that runs the session to leave, then make it. False when there is none."""
    if not locked(directory):
        return False
    for number, patience_s in ((signal.SIGTERM, TERM_S), (signal.SIGKILL, KILL_S)):
        # Whoever holds the lock wrote its pid there, and lives while it holds it.
        holder = (directory / LOCK).read_text().strip()
        if holder.isdigit() and locked(directory):
            try:
                os.kill(int(holder), number)
            except ProcessLookupError:
                pass
            except PermissionError as exc:
                raise HarnessError(f"session {directory.name} is run by another user (pid {holder})") from exc
        if await _released(directory, patience_s):
            return True
    raise HarnessError(f"session {directory.name} does not end (pid {holder})")


async def _released(directory: Path, patience_s: float) -> bool:
    for _ in range(round(patience_s / LOOK_S)):
        if not locked(directory):
            return True
        await asyncio.sleep(LOOK_S)
    return False
