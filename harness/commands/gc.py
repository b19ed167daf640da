"""`usermode gc`: what was left behind by a session that did not come to its end."""

from __future__ import annotations

import asyncio

from harness.commands.say import say
from harness.store import Store, home
from sandbox.engine import Engine
from sandbox.reaper import Reaped, reap


def gc() -> int:
    store = Store(home())
    removed = asyncio.run(_reap(store))
    for one in removed:
        say(f"removed {one.what} of session {one.session}")
    swept = store.sweep()
    if swept:
        say(f"finished removing {swept} sessions")
    if not removed and not swept:
        say("nothing to remove")
    return 0


async def _reap(store: Store) -> list[Reaped]:
    engine = await Engine.connect()
    try:
        return await reap(engine, store.sessions)
    finally:
        await engine.close()
