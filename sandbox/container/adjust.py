"""Other bounds for a container that runs: the engine sets them, and what holds is then measured inside."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from policies.schema import Limits
from sandbox.engine import Engine
from sandbox.errors import EngineFailed
from sandbox.hardening import resources
from sandbox.posture import known
from sandbox.posture.compare import bounds
from sandbox.posture.facts import Answer

ADJUSTABLE = frozenset({"memory_mb", "pids", "cpus"})
"""gVisor has no way to change any of them."""

ReadFile = Callable[[str], Awaitable[bytes]]


async def adjust(engine: Engine, container: str, limits: Limits, read: ReadFile) -> None:
    """`read` reads a file inside.

    SandboxRefused when the engine keeps the bounds of before; EngineFailed when it says it took these, and
    others are found.
    """
    wanted = resources(limits)
    await engine.update(container, wanted)
    found = {f"r {path}": await _answer(path, read) for path in known.BOUNDS}
    differences = list(bounds((wanted["Memory"], wanted["PidsLimit"], wanted["CpuQuota"]), found))
    if differences:
        raise EngineFailed(f"the engine took other limits, and they do not hold: {'; '.join(differences)}")


async def _answer(path: str, read: ReadFile) -> Answer:
    try:
        return Answer(0, await read(path))
    except OSError as error:
        return Answer(error.errno or 1, b"")
