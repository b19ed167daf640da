"""The reaper: removes what a killed harness left behind: containers, mounts, temporary directories.

A container whose harness has died also ends by itself when its lease runs out (`limits.orphan_s`); this is
for whoever does not want to wait. What a living harness owns, or `detach` left on purpose, is not touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sandbox import owner
from sandbox.engine import Engine
from sandbox.image.initbinary import TASK
from sandbox.image.initbinary import TEMPORARY as SOURCES
from sandbox.lifecycle.prepared import TEMPORARY
from sandbox.lifecycle.record import RECORD, Record
from sandbox.workspace.quota import mounted_sessions, release

FOUND = "orphan"
"""In a session's directory: whose harness is known to be gone, and since when."""


@dataclass(frozen=True)
class Reaped:
    session: str
    what: str
    """`container`, `mount` or `temporary directory`."""


async def reap(
    engine: Engine,
    store: Path,
    *,
    session: str | None = None,
    resumable: Callable[[Path], bool] = lambda state: False,
) -> list[Reaped]:
    """Remove orphans, or everything of one session whoever owns it. Returns what was removed.

    `store` is the directory that holds session directories. An orphan that is `resumable`, by its session's
    directory, is left to its lease while it runs: it ends by itself, or somebody goes on with it. One that
    does not end is removed a lease after it was first found.
    """
    removed: list[Reaped] = []
    leased: set[Path] = set()
    for facts in await engine.containers({owner.SESSION: session or ""}):
        labels = facts.get("Labels") or {}
        state = Path(labels.get(owner.STATE, "/nonexistent"))
        if session is None and (owner.is_alive(labels.get(owner.OWNER, "")) or _in_use(state)):
            continue
        if session is None and facts.get("State") == "running" and resumable(state) and _leased(state):
            leased.add(state.resolve())
            continue
        await engine.remove(facts["Id"])
        (state / RECORD).unlink(missing_ok=True)
        removed.append(Reaped(labels.get(owner.SESSION, ""), "container"))
    if session is None:
        removed += [one async for one in _makers(engine)]
    removed += await asyncio.to_thread(lambda: list(_on_the_host(store, session, leased)))
    return removed


async def _makers(engine: Engine) -> AsyncIterator[Reaped]:
    """Containers that were making something for sessions when their harness was killed."""
    for facts in await engine.containers({TASK: ""}):
        if not owner.is_alive((facts.get("Labels") or {}).get(owner.OWNER, "")):
            await engine.remove(facts["Id"])
            yield Reaped("", "container")


def _on_the_host(store: Path, session: str | None, leased: set[Path]) -> Iterator[Reaped]:
    for directory in mounted_sessions(store):
        if directory.resolve() in leased:
            continue
        if directory.name == session or (session is None and not _in_use(directory)):
            with contextlib.suppress(FileNotFoundError):
                release(directory)
            yield Reaped(directory.name, "mount")
    temporary = Path(tempfile.gettempdir())
    for directory in [*temporary.glob(f"{TEMPORARY}*"), *temporary.glob(f"{SOURCES}*")]:
        if session is None and (directory / owner.FILE).exists() and not _in_use(directory):
            with contextlib.suppress(FileNotFoundError):
                release(directory)
            shutil.rmtree(directory, ignore_errors=True)
            yield Reaped(directory.name, "temporary directory")


def _leased(state: Path) -> bool:
    """Whether an orphan's time is not over yet, counted from when it was first found to be one."""
    try:
        orphan_s = Record.load(state).policy.limits.orphan_s
        found, whose = state / FOUND, (state / owner.FILE).read_text()
        # Begun anew where the session was taken up since, or the clock was set back.
        if not found.exists() or found.read_text() != whose or found.stat().st_mtime > time.time():
            found.write_text(whose)
        return time.time() - found.stat().st_mtime < orphan_s
    except (OSError, ValueError, TypeError, KeyError):
        return False


def _in_use(state: Path) -> bool:
    return owner.in_use(state) or _left(state)


def _left(state: Path) -> bool:
    try:
        return Record.load(state).left
    except (OSError, ValueError, TypeError, KeyError):
        return False
