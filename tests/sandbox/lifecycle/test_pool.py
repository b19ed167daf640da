"""Warm sandboxes: handed out once each, as good as cold ones, and all gone at the end."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from policies import load
from sandbox import Command, SandboxSpec, owner
from sandbox.engine import Engine
from sandbox.errors import ImageMissing
from sandbox.lifecycle.pool import SandboxPool

pytestmark = pytest.mark.docker


async def ours(engine: Engine) -> int:
    found = await engine.containers({owner.OWNER: owner.this_process()})
    return len(found)


async def test_each_sandbox_is_handed_out_once_and_another_takes_its_place(engine: Engine) -> None:
    async with SandboxPool(SandboxSpec(load("strict")), 2, engine=engine) as pool:
        assert pool.ready == 2
        seen = set()
        for _ in range(3):
            async with pool.open() as box:
                seen.add(box.ref)
                assert (await box.run(Command(("sh", "-c", "ls /tmp; touch /tmp/x"), cwd="/"))).stdout == b""
        assert len(seen) == 3
        async with asyncio.timeout(20):
            while pool.ready < 2:
                await asyncio.sleep(0.05)
    assert await ours(engine) == 0


async def test_a_warm_sandbox_is_filled_with_the_workspace_it_is_asked_for(
    engine: Engine, tmp_path: Path
) -> None:
    (tmp_path / "hello").write_text("from the host")
    async with (
        SandboxPool(SandboxSpec(load("strict")), 1, engine=engine, workspaces=True) as pool,
        pool.open(tmp_path) as box,
    ):
        assert await box.read_file("/workspace/hello") == b"from the host"
        assert (await box.run(Command(("sh", "-c", "echo x > new; ls")))).stdout == b"hello\nnew\n"
        assert box.copy_report is not None
        assert box.copy_report.files == 1
    assert not (tmp_path / "new").exists()
    assert await ours(engine) == 0


async def test_a_sandbox_that_died_in_the_pool_is_not_handed_out(engine: Engine) -> None:
    async with SandboxPool(SandboxSpec(load("strict")), 1, engine=engine) as pool:
        for facts in await engine.containers({owner.OWNER: owner.this_process()}):
            await engine.remove(facts["Id"])
        await asyncio.sleep(0.3)
        async with pool.open() as box:
            assert (await box.run(Command(("echo", "alive"), cwd="/"))).stdout == b"alive\n"


async def test_a_pool_that_cannot_open_its_first_says_why(engine: Engine) -> None:
    with pytest.raises(ImageMissing):
        async with SandboxPool(SandboxSpec(load("strict"), image="usermode/nosuch"), 2, engine=engine):
            pass
    assert await ours(engine) == 0
