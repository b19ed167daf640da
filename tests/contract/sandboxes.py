"""Ways to open the sandboxes the contract is checked against."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from policies import load
from sandbox import SandboxSpec, open_sandbox
from sandbox.conformance import OpenSandbox
from sandbox.memory import MemorySandbox
from sandbox.protocol import Sandbox


@asynccontextmanager
async def memory() -> AsyncIterator[Sandbox]:
    async with MemorySandbox() as box:
        yield box


def docker(runtime: Literal["runc", "runsc"], image: str | None = None) -> OpenSandbox:
    @asynccontextmanager
    async def open_one() -> AsyncIterator[Sandbox]:
        async with open_sandbox(SandboxSpec(policy=load("strict"), image=image, runtime=runtime)) as box:
            yield box

    return open_one


SANDBOXES: dict[str, OpenSandbox] = {"memory": memory, "runc": docker("runc")}
