"""Every check of the contract against every sandbox there is."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from sandboxes import docker
from together import complaints

from sandbox.conformance import CHECKS, Outcome, run_all
from sandbox.engine import Engine

IDS = [check.id for check in CHECKS]


# The first test of each sandbox waits for all of its checks.
@pytest.mark.timeout(600)
@pytest.mark.parametrize("check_id", IDS)
@pytest.mark.parametrize("sandbox", ["memory", pytest.param("runc", marks=pytest.mark.docker)])
def test_contract(outcome_of: Callable[[str, str], Outcome], sandbox: str, check_id: str) -> None:
    outcome = outcome_of(sandbox, check_id)
    assert outcome.status == "kept", f"{outcome.statement}: {outcome.detail}"


@pytest.mark.docker
@pytest.mark.timeout(1200)
async def test_contract_on_gvisor() -> None:
    """About twenty checks of every kind; with `make test GVISOR=1` all of them, which takes minutes there."""
    if "runsc" not in await engine_runtimes():
        pytest.skip("this engine has no runtime runsc (gVisor): make engine GVISOR=1")
    if os.environ.get("USERMODE_TEST_RUNTIME") == "runsc":
        outcomes = await run_all(docker("runsc"), at_once=3)
        assert [(one.id, one.detail) for one in outcomes if one.status != "kept"] == []
    else:
        assert await complaints(docker("runsc"), CHECKS[:: len(CHECKS) // 20], at_once=3) == []


async def engine_runtimes() -> set[str]:
    engine = await Engine.connect()
    try:
        return set((await engine.info())["Runtimes"])
    finally:
        await engine.close()


def test_the_contract_is_as_large_as_promised() -> None:
    assert len(IDS) >= 60
    assert all(check.statement for check in CHECKS)
