"""`usermode approvals`, `approve`, `deny`: questions of running sessions, answered from another terminal."""

from __future__ import annotations

import asyncio
import json as jsonlib
from pathlib import Path
from typing import Literal

from harness.approvals.petition import SAID_CHARS, Scope
from harness.commands.say import say
from harness.control.client import NotRunning, line_to
from harness.errors import HarnessError, UsageError
from harness.messages import JsonObject
from harness.store import Store, home
from harness.words import bounded, duration

FACT_CHARS = 2000
"""Of one fact; the middle of a longer one is cut out, and then only `--json` shows it whole."""


def sessions(reference: str | None) -> list[Path]:
    """The session that was named, or all that run now."""
    store = Store(home())
    if reference is not None:
        return [store.session(reference)]
    return [row.directory for row in store.list() if row.status == "running"]


def approvals(reference: str | None, *, json: bool) -> int:
    found = told(reference, "approvals")
    if json:
        for session, asked in found:
            print(jsonlib.dumps({"v": 1, "session": session, **asked}))
        return 0
    if not found:
        say("no question waits for an answer")
    for session, asked in found:
        _show(session, asked)
    return 0


def told(reference: str | None, what: Literal["approvals", "grants"]) -> list[tuple[str, JsonObject]]:
    """What a session, or all that run, answer to that; each with its session's name."""
    return asyncio.run(_told(sessions(reference), what, named=reference is not None))


async def _told(directories: list[Path], what: str, *, named: bool) -> list[tuple[str, JsonObject]]:
    found = []
    for directory in directories:
        try:
            async with line_to(directory) as line:
                answer = await line.ask(op=what)
        except (NotRunning, HarnessError):
            if named:
                raise
            continue  # It has ended since it was listed.
        found += [(directory.name, one) for one in answer[what]]
    return found


def _show(session: str, asked: JsonObject) -> None:
    left = duration(asked["left_s"])
    print(f"{bounded(session)} {bounded(asked['approval'])}: {bounded(asked['what'])} ({left} left)")
    width = max(len(label) for label, _ in asked["facts"])
    for label, value in asked["facts"]:
        print(f"  {bounded(label).ljust(width)}  {bounded(value, FACT_CHARS)}")
    if asked["said"]:
        print(f"  the model says: “{bounded(asked['said'], SAID_CHARS)}”")
    print(f"  can be allowed: {', '.join(asked['offers'])}")
    print(
        f"  usermode approve {session} {asked['approval']}   or   usermode deny {session} {asked['approval']}"
    )


def approve(
    reference: str, name: str, *, once: bool, session: bool, minutes: float | None, always: bool
) -> int:
    chosen: list[Scope] = []
    if once:
        chosen.append("once")
    if session:
        chosen.append("session")
    if minutes is not None:
        chosen.append("minutes")
    if always:
        chosen.append("always")
    if len(chosen) > 1:
        raise UsageError("--once, --session, --minutes and --always exclude each other")
    [directory] = sessions(reference)
    scope = chosen[0] if chosen else None
    asyncio.run(_answer(directory, name, granted=True, scope=scope, minutes=minutes))
    say(f"{directory.name}: {name} is allowed")
    return 0


def deny(reference: str, name: str) -> int:
    [directory] = sessions(reference)
    asyncio.run(_answer(directory, name, granted=False, scope=None, minutes=None))
    say(f"{directory.name}: {name} is denied")
    return 0


async def _answer(
    directory: Path, name: str, *, granted: bool, scope: Scope | None, minutes: float | None
) -> None:
    async with line_to(directory) as line:
        await line.ask(op="answer", approval=name, granted=granted, scope=scope, minutes=minutes)
