"""`usermode policy`: what the profiles and policy files say."""

from __future__ import annotations

from harness.commands.say import say, table
from policies import load
from policies.describe import describe
from policies.load import profiles


def list_profiles() -> int:
    table((name, load(name).description) for name in profiles())
    return 0


def show(name: str) -> int:
    for line in describe(load(name)).splitlines():
        say(line)
    return 0
