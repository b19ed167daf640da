"""Running the suite: every case against one target, one after the other."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Collection

from sandbox import owner
from sandbox.attack import container_cases, exhaustion_cases, network_cases, record_cases, surface_cases
from sandbox.attack.case import Case, Failed, NotApplicable, Result, Target
from sandbox.attack.elsewhere import ELSEWHERE
from sandbox.attack.target import plain, session
from sandbox.engine import Engine
from sandbox.errors import SandboxError
from sandbox.protocol import SandboxSpec

LEFT_OVERS = Case("S10", "what is left when it is over", container_cases.directory)
CASES: tuple[Case, ...] = tuple(
    sorted(
        (
            *container_cases.CASES,
            *surface_cases.CASES,
            *exhaustion_cases.CASES,
            *network_cases.CASES,
            *record_cases.CASES,
        ),
        key=lambda case: case.id,
    )
)
EVIDENCE_MAX = 8


def known() -> set[str]:
    """Every id the command can be asked for."""
    return {case.id for case in CASES} | {"S10"} | set(ELSEWHERE)


async def attack(
    spec: SandboxSpec, engine: Engine, *, baseline: bool = False, only: Collection[str] = ()
) -> AsyncIterator[Result]:
    """Results as they come, in the order of ids. SandboxError when the target cannot be opened."""
    opening = plain if baseline else session
    async with opening(spec, engine) as target:
        for case in CASES:
            if not only or case.id in only:
                yield await tried(case, target)
        ref = target.box.ref
    if not only or "S10" in only:
        yield await _left(engine, ref)
    for identity, (title, reason) in ELSEWHERE.items():
        if not only or identity in only:
            yield Result(identity, title, "not applicable", (reason,))


async def tried(case: Case, target: Target) -> Result:
    begun = time.perf_counter()
    try:
        achieved = await case.attack(target)
    except NotApplicable as reason:
        return Result(case.id, case.title, "not applicable", (str(reason),), time.perf_counter() - begun)
    except (Failed, SandboxError, OSError, ValueError) as error:
        # It shows nothing, and so it must not pass for a wall that held.
        told = f"it could not be carried out: {error}"
        return Result(case.id, case.title, "failed", (told,), time.perf_counter() - begun)
    shown = tuple(achieved[:EVIDENCE_MAX])
    if len(achieved) > EVIDENCE_MAX:
        shown += (f"and {len(achieved) - EVIDENCE_MAX} more",)
    return Result(case.id, case.title, "breached" if achieved else "held", shown, time.perf_counter() - begun)


async def _left(engine: Engine, ref: str) -> Result:
    """Containers of this process, by their label; the target's own has ended."""
    begun = time.perf_counter()
    mine = await engine.containers({owner.OWNER: owner.this_process()})
    left = tuple(
        f"container {one['Id'][:12]}" for one in mine if one["Id"] == ref or one["State"] == "exited"
    )
    return Result("S10", LEFT_OVERS.title, "breached" if left else "held", left, time.perf_counter() - begun)
