"""A harness that dies leaves nothing behind for long (attack A45)."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox import owner
from sandbox.engine import Engine
from sandbox.lifecycle.reaper import reap

pytestmark = pytest.mark.docker

HARNESS = """
import asyncio, sys
from policies import load
from sandbox import Command, SandboxSpec, open_sandbox

async def main():
    policy = load("strict")
    limits = policy.limits.model_copy(update={"orphan_s": float(sys.argv[2])})
    spec = SandboxSpec(policy=policy.model_copy(update={"limits": limits}), session=sys.argv[1])
    async with open_sandbox(spec) as box:
        await box.start(Command(("sleep", "600")))
        print("ready", flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


def killed_harness(session: str, orphan_s: float, tmp_path: Path) -> None:
    """Open a session in a process of its own and kill that with a command running."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", HARNESS, session, str(orphan_s)], stdout=subprocess.PIPE, env=environment
    ) as harness:
        assert harness.stdout is not None
        assert harness.stdout.readline() == b"ready\n"
        harness.send_signal(signal.SIGKILL)


async def containers(engine: Engine, session: str) -> int:
    return len(await engine.containers({owner.SESSION: session}))


@pytest.mark.parametrize("way", ["by itself", "by the reaper"])
async def test_the_container_of_a_killed_harness_goes(way: str, tmp_path: Path):
    session = f"test-{secrets.token_hex(6)}"
    engine = await Engine.connect()
    try:
        await asyncio.to_thread(killed_harness, session, 3.0 if way == "by itself" else 600.0, tmp_path)
        if way == "by the reaper":
            assert await containers(engine, session) == 1
            # What tests beside this one have left is theirs.
            removed = await reap(engine, tmp_path, resumable=lambda state: tmp_path not in state.parents)
            assert [one.what for one in removed if one.session == session] == ["container"]
        async with asyncio.timeout(60):
            while await containers(engine, session):
                await asyncio.sleep(0.2)
    finally:
        await engine.close()
