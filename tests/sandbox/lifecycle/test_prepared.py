"""Getting ready for a container: what was begun for it and is not needed is over before the answer."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from types import SimpleNamespace

import pytest

from policies import load
from sandbox.errors import ImageMissing
from sandbox.lifecycle import prepared
from sandbox.protocol import SandboxSpec


async def test_init_is_no_longer_being_compiled_when_a_missing_image_is_told(tmp_path, monkeypatch):
    ended: list[str] = []

    async def compiling(engine: object) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)  # as long as it takes to remove a container
            ended.append("compiler")

    async def missing(*arguments: object) -> None:
        await asyncio.sleep(0.01)
        raise ImageMissing("gone")

    monkeypatch.setattr(prepared, "init_binary", compiling)
    monkeypatch.setattr(prepared, "resolve", missing)
    spec = SandboxSpec(policy=load("strict"), state=tmp_path / "state")
    async with AsyncExitStack() as stack:
        with pytest.raises(ImageMissing):
            await prepared.prepare(stack, spec, SimpleNamespace(is_local=True), storage=False)
    assert ended == ["compiler"]
