"""A workspace that is filled while its container starts."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from dataclasses import replace

import pytest

from policies import load
from sandbox import Command, SandboxSpec, open_sandbox
from sandbox.engine import Engine
from sandbox.errors import SandboxRefused
from sandbox.hardening import sandbox_user
from sandbox.owner import SESSION
from sandbox.workspace.layout import tree_of
from sandbox.workspace.quota import mounted_sessions, prepare, remove

pytestmark = pytest.mark.docker


@pytest.fixture
def spec(tmp_path):
    """Of a session whose storage is empty and mounted."""
    state = tmp_path / "state"
    state.mkdir()
    policy = load("strict")
    uid, gid = sandbox_user()
    prepare(state, policy.limits, uid=uid, gid=gid)
    yield SandboxSpec(
        policy=policy, workspace=tmp_path, state=state, session=f"filled-{os.urandom(4).hex()}", reopen=True
    )
    remove(state)


async def containers(spec):
    engine = await Engine.connect()
    try:
        return await engine.containers({SESSION: spec.session})
    finally:
        await engine.close()


def slowly(spec, began=None):
    def fill():
        if began is not None:
            began.set()
        time.sleep(0.5)
        (tree_of(spec.state) / "last").write_text("all is there")

    return fill


async def test_the_first_command_finds_all_of_it(spec):
    async with open_sandbox(replace(spec, fill=slowly(spec))) as box:
        done = await box.run(Command(("cat", "/workspace/last")))
    assert done.stdout == b"all is there"


async def test_what_cannot_be_filled_is_no_sandbox(spec):
    def fill():
        raise SandboxRefused("there is nothing to fill it with")

    with pytest.raises(SandboxRefused, match="nothing to fill it with"):
        async with open_sandbox(replace(spec, fill=fill)):
            pytest.fail("opened all the same")
    assert await containers(spec) == []
    assert spec.state not in mounted_sessions(spec.state.parent)


async def test_who_is_called_off_meanwhile_leaves_when_the_filling_is_over(spec):
    began = threading.Event()

    async def opened():
        async with open_sandbox(replace(spec, fill=slowly(spec, began))):
            pytest.fail("opened all the same")

    opening = asyncio.create_task(opened())
    await asyncio.to_thread(began.wait)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert await containers(spec) == []
    # Else its thread would write on into what was unmounted.
    assert spec.state not in mounted_sessions(spec.state.parent)
    assert not (spec.state / "workspace" / "tree").exists()
