"""Sessions that start sessions: a machine with a box for each of them, and a script that says who speaks."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager

from boot_double import MemoryMachine

from harness.boot.machine import Opened
from policies import load
from sandbox.memory import MemorySandbox


class Nursery(MemoryMachine):
    """A box for each session that is opened, and what is still open."""

    def __init__(self, commands=None):
        super().__init__()
        self.commands = commands or {}
        self.living = set()
        self.most = 0
        self.abandoned = []

    @asynccontextmanager
    async def open(self, spec):
        self.opened.append(spec)
        box = MemorySandbox(policy=spec.policy, files={"/workspace/.keep": ""}, commands=self.commands)
        self.living.add(spec.session)
        self.most = max(self.most, len(self.living))
        try:
            async with box:
                yield Opened(box, None)
        finally:
            self.living.discard(spec.session)
            self.closed += 1

    async def abandon(self, state):
        self.abandoned.append(state.name)


def lines(started, *replies):
    """The script: a reply is the session's own, or (child, reply)."""
    text = []
    for reply in replies:
        child, one = reply if isinstance(reply, tuple) else ("", reply)
        text.append(json.dumps({"child": child, **(one if isinstance(one, dict) else {"text": one})}))
    started.script.write_text("\n".join(text) + "\n")


def spawn(name, task="do it", **more):
    return "spawn", {"name": name, "task": task, **more}


def free(**limits):
    policy = load("strict")
    return policy.model_copy(update={"limits": policy.limits.model_copy(update=limits)})
