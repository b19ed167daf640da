"""Attacks run from inside a real session; what counts is the effect, not an error message."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from policies import Policy, load
from sandbox import Command, Completed, Sandbox, SandboxSpec, open_sandbox
from sandbox.engine import Engine
from sandbox.lifecycle import prepared
from sandbox.runtime import Runtime

Opener = Callable[..., AbstractAsyncContextManager[Sandbox]]
RUNTIME: Runtime = "runsc" if os.environ.get("USERMODE_TEST_RUNTIME") == "runsc" else "runc"
"""Of every session that these tests open: `make test GVISOR=1` runs them on gVisor, too."""


@pytest.fixture(autouse=True)
def runtime(monkeypatch: pytest.MonkeyPatch) -> Runtime:
    """What these tests run on. Where gVisor differs a test says what holds there instead."""
    usable = prepared.usable

    async def ours(engine: Engine, asked: Runtime | None, policy: Policy) -> Runtime:
        return await usable(engine, asked or RUNTIME, policy)

    if RUNTIME != "runc":
        monkeypatch.setattr(prepared, "usable", ours)
    return RUNTIME


def policy_with(name: str = "strict", **limits: Any) -> Policy:
    """A built-in profile with other limits."""
    policy = load(name)
    return policy.model_copy(update={"limits": policy.limits.model_copy(update=limits)})


@pytest.fixture
def open_box() -> Opener:
    """`async with open_box(pids=64, …) as box:`: the strict profile with these limits."""

    def opener(**limits: Any) -> AbstractAsyncContextManager[Sandbox]:
        return open_sandbox(SandboxSpec(policy=policy_with(**limits)))

    return opener


@pytest.fixture
async def box(open_box: Opener) -> AsyncIterator[Sandbox]:
    async with open_box() as one:
        yield one


@pytest.fixture
def sh(box: Sandbox) -> Callable[..., Awaitable[Completed]]:
    async def run(text: str, **fields: Any) -> Completed:
        return await box.run(Command(("sh", "-c", text), **fields))

    return run


@pytest.fixture
def python(box: Sandbox) -> Callable[[str], Awaitable[Any]]:
    """Run Python inside; it prints JSON, which is returned."""

    async def run(text: str) -> Any:
        done = await box.run(Command(("python3", "-"), stdin=text.encode()))
        assert done.exit_code == 0, done.stderr.decode(errors="replace")
        return json.loads(done.stdout)

    return run
