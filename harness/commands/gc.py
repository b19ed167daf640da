"""`usermode gc`: what was left behind by a session that did not come to its end."""

from __future__ import annotations

import asyncio
from pathlib import Path

from harness.commands.say import say
from harness.rows import row_of
from harness.store import Store, home
from sandbox.engine import Engine
from sandbox.lifecycle.reaper import Reaped, reap


def gc() -> int:
    store = Store(home())
    removed = asyncio.run(_reap(store))
    for one in removed:
        say(f"removed {one.what}" + (f" of session {one.session}" if one.session else ""))
    swept = store.sweep()
    if swept:
        say(f"finished removing {swept} sessions that were removed, or killed before they began")
    if not removed and not swept:
        say("nothing to remove")
    return 0


async def _reap(store: Store) -> list[Reaped]:
    def unended(state: Path) -> bool:
        """Whether somebody may go on with a session in its container: nobody wrote its end, and it is no
        child, which ends with its parent.
        """
        row = row_of(state)
        return row.status == "interrupted" and not row.parent

    engine = await Engine.connect()
    try:
        return await reap(engine, store.sessions, resumable=unended)
    finally:
        await engine.close()
