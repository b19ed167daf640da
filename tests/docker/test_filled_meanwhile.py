"""A workspace that was promised: its files are made while the container of its session starts."""

from __future__ import annotations

import asyncio
import os
import threading
import time

import pytest

from policies import load
from sandbox import Command, SandboxSpec, open_sandbox
from sandbox.checkpoints.planting import promise
from sandbox.checkpoints.restore import Restore
from sandbox.checkpoints.share import link
from sandbox.checkpoints.store import Bounds, Writer
from sandbox.engine import Engine
from sandbox.errors import SandboxRefused
from sandbox.hardening import sandbox_user
from sandbox.owner import SESSION
from sandbox.workspace.copyin import copy_in
from sandbox.workspace.quota import mounted_sessions, prepare, promised, remove

pytestmark = pytest.mark.docker

COUNTED = Command(("sh", "-c", "find /workspace -type f | wc -l; cat /workspace/f0"))


@pytest.fixture
def spec(tmp_path):
    """Of a session to which the files of another one are promised."""
    project, source, state = (tmp_path / name for name in ("project", "source", "state"))
    for directory in (project, source, state):
        directory.mkdir()
    for number in range(50):
        (project / f"f{number}").write_text(f"all of {number}\n")
    policy = load("strict")
    uid, gid = sandbox_user()
    prepare(source, policy.limits, uid=uid, gid=gid)
    copy_in(project, source, limits=policy.limits, uid=uid, gid=gid)
    with Writer(source, Bounds(64, 10)) as writer:
        taken = writer.take()
    remove(source)
    link(source, state, [0])
    promise(state, source, taken, policy.limits, lasting=True)
    yield SandboxSpec(
        policy=policy, workspace=project, state=state, session=f"filled-{os.urandom(4).hex()}", reopen=True
    )
    remove(state)


async def containers(spec):
    engine = await Engine.connect()
    try:
        return await engine.containers({SESSION: spec.session})
    finally:
        await engine.close()


async def test_the_first_command_finds_all_of_it_and_what_it_does_stays(spec, monkeypatch):
    real = Restore.run

    def slowly(*arguments):
        time.sleep(0.5)
        real(*arguments)

    monkeypatch.setattr(Restore, "run", slowly)
    async with open_sandbox(spec) as box:
        assert not promised(spec.state)
        assert (await box.run(COUNTED)).stdout == b"50\nall of 0\n"
        await box.run(Command(("sh", "-c", "rm /workspace/f1; echo mine > /workspace/f0")))
    async with open_sandbox(spec) as box:
        assert (await box.run(COUNTED)).stdout == b"49\nmine\n"


async def test_what_cannot_be_made_is_no_sandbox_and_is_made_the_next_time(spec, monkeypatch):
    def broken(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(Restore, "_file", broken)
        with pytest.raises(SandboxRefused, match="No space left"):
            async with open_sandbox(spec):
                pytest.fail("opened all the same")
    assert promised(spec.state)
    assert await containers(spec) == []
    assert spec.state not in mounted_sessions(spec.state.parent)
    async with open_sandbox(spec) as box:
        assert (await box.run(COUNTED)).stdout == b"50\nall of 0\n"


async def test_who_is_called_off_meanwhile_leaves_when_the_making_is_over(spec, monkeypatch):
    began = threading.Event()
    over = threading.Event()
    real = Restore.run

    def slowly(*arguments):
        began.set()
        time.sleep(0.5)
        real(*arguments)
        over.set()

    monkeypatch.setattr(Restore, "run", slowly)

    async def opened():
        async with open_sandbox(spec):
            pytest.fail("opened all the same")

    opening = asyncio.create_task(opened())
    await asyncio.to_thread(began.wait)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    # Else its thread would write on into what is unmounted.
    assert over.is_set()
    assert await containers(spec) == []
    assert spec.state not in mounted_sessions(spec.state.parent)
    assert not (spec.state / "workspace" / "tree").exists()
