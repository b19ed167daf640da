"""What a benchmark is given: how much to measure, a directory on a disk, and two ways to the engine."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker

from policies import Policy, load
from sandbox import Command
from sandbox.engine import Engine
from sandbox.protocol import Completed, Sandbox
from tests.bench.figure import NotMeasured

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build"
TRUE = Command(("true",))


@dataclass(frozen=True)
class Bench:
    quick: bool

    def count(self, full: int, quick: int) -> int:
        return quick if self.quick else full

    @contextlib.contextmanager
    def directory(self) -> Iterator[Path]:
        """On the checkout's disk: a temporary directory may be memory, where a flush costs nothing."""
        BUILD.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="bench-", dir=BUILD, ignore_cleanup_errors=True) as name:
            yield Path(name)

    @property
    def policy(self) -> Policy:
        return load("strict")


@contextlib.asynccontextmanager
async def connected() -> AsyncIterator[Engine]:
    engine = await Engine.connect()
    try:
        yield engine
    finally:
        await engine.close()


@contextlib.contextmanager
def sdk() -> Iterator[Any]:
    """The Docker SDK as its documentation says to use it: the peer."""
    client = docker.from_env().api
    try:
        yield client
    finally:
        client.close()


async def true(box: Sandbox) -> Completed:
    """Run `true` and be sure that it ran."""
    done = await box.run(TRUE)
    if done.exit_code != 0:
        raise NotMeasured(f"`true` ended with {done.exit_code}: {done.stderr!r}")
    return done
