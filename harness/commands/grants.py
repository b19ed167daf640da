"""`usermode grants` and `revoke`: answers that stand, in running sessions and for good."""

from __future__ import annotations

import asyncio
import json as jsonlib
import time
from pathlib import Path

from harness.approvals.remembered import Kept, forget_everywhere, read
from harness.commands.approvals import sessions, told
from harness.commands.say import say, table
from harness.control.client import line_to
from harness.errors import HarnessError, UsageError
from harness.messages import JsonObject
from harness.store import home
from harness.words import bounded, duration

ALWAYS = "always"
"""Stands where a session's name does, for what was answered for good."""
ID_CHARS = 12


def grants(reference: str | None, *, json: bool) -> int:
    found: list[tuple[str, JsonObject]] = []
    if reference != ALWAYS:
        found = told(reference, "grants")
    kept = read(home()) if reference in (None, ALWAYS) else []
    found += [(ALWAYS, _kept(one)) for one in kept]
    if json:
        for session, grant in found:
            print(jsonlib.dumps({"v": 1, "session": session, **grant}))
    elif not found:
        say("no grant stands")
    else:
        rows = [
            (bounded(session), bounded(grant["grant"]), grant["kind"], _lasts(grant), bounded(grant["what"]))
            for session, grant in found
        ]
        table([("SESSION", "GRANT", "KIND", "STANDS", "WHAT"), *rows])
    return 0


def _kept(one: Kept) -> JsonObject:
    return {
        "grant": one.binding[:ID_CHARS],
        "kind": one.kind,
        "what": one.subject,
        "scope": ALWAYS,
        "until": None,
        "binding": one.binding,
        "policy": one.policy,
    }


def _lasts(grant: JsonObject) -> str:
    if grant["scope"] == "minutes":
        return f"{duration(max(0.0, grant['until'] - time.time()))} more"
    if grant["scope"] == ALWAYS and "policy" in grant:
        return f"always, under {bounded(grant['policy'])}"
    return str(grant["scope"])


def revoke(reference: str, name: str) -> int:
    if reference != ALWAYS:
        [directory] = sessions(reference)
        asyncio.run(_revoke(directory, name))
        say(f"{directory.name}: {name} is revoked, and what was open by it is cut")
        return 0
    if len(name) < ID_CHARS or not set(name) <= set("0123456789abcdef"):
        raise UsageError(f"{name!r} is no grant; `usermode grants always` lists them")
    dropped = forget_everywhere(home(), name)
    if not dropped:
        raise UsageError(f"no grant {name}; `usermode grants always` lists them")
    for one in dropped:
        asyncio.run(_revoke_where_it_runs(one.binding))
        say(f"revoked: {one.subject}")
    return 0


async def _revoke(directory: Path, name: str) -> None:
    async with line_to(directory) as line:
        await line.ask(op="revoke", grant=name)


async def _revoke_where_it_runs(binding: str) -> None:
    for directory in sessions(None):
        try:
            await _revoke(directory, binding)
        except HarnessError:
            continue  # It does not have it, or has ended.
