"""Every check of the contract against every sandbox there is."""

from __future__ import annotations

import pytest

from sandbox.conformance import CHECKS, Check, OpenSandbox, run_all


@pytest.mark.parametrize("check", CHECKS, ids=[check.id for check in CHECKS])
async def test_contract(open_box: OpenSandbox, check: Check) -> None:
    async with open_box() as box:
        await check.run(box)


@pytest.mark.docker
@pytest.mark.timeout(1200)
async def test_contract_on_gvisor(open_gvisor: OpenSandbox) -> None:
    outcomes = await run_all(open_gvisor)
    assert [(one.id, one.detail) for one in outcomes if one.status != "kept"] == []


def test_the_contract_is_as_large_as_promised() -> None:
    assert len(CHECKS) >= 60
    assert all(check.statement for check in CHECKS)
