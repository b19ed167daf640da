"""The sandboxes the contract is checked against: the double, and Docker on each runtime the engine has."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

import pytest

from policies import load
from sandbox import SandboxSpec, open_sandbox
from sandbox.conformance import OpenSandbox
from sandbox.engine import Engine
from sandbox.memory import MemorySandbox
from sandbox.protocol import Sandbox


@asynccontextmanager
async def memory() -> AsyncIterator[Sandbox]:
    async with MemorySandbox() as box:
        yield box


def docker(runtime: Literal["runc", "runsc"]) -> OpenSandbox:
    @asynccontextmanager
    async def open_one() -> AsyncIterator[Sandbox]:
        async with open_sandbox(SandboxSpec(policy=load("strict"), runtime=runtime)) as box:
            yield box

    return open_one


@pytest.fixture(params=[memory, pytest.param(docker("runc"), id="runc", marks=pytest.mark.docker)])
def open_box(request: pytest.FixtureRequest) -> OpenSandbox:
    opener: OpenSandbox = request.param
    return opener


@pytest.fixture
async def open_gvisor() -> OpenSandbox:
    engine = await Engine.connect()
    try:
        runtimes = (await engine.info())["Runtimes"]
    finally:
        await engine.close()
    if "runsc" not in runtimes:
        pytest.skip("this engine has no runtime runsc (gVisor)")
    return docker("runsc")
