"""The sandboxes the contract is checked against: the double, and Docker on runc.

All checks of one sandbox run together, several at a time, when the first of its tests asks; each test then
looks at its own outcome. They mostly wait, and would take minutes one after the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from sandboxes import SANDBOXES

from sandbox.conformance import CHECKS, Outcome, run_all

AT_ONCE = 8


@pytest.fixture(scope="session")
def outcome_of(request: pytest.FixtureRequest) -> Callable[[str, str], Outcome]:
    """The outcome of one check of one sandbox; only those that this run of the tests asks for are run."""
    specs = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    known: dict[str, dict[str, Outcome]] = {}

    def find(sandbox: str, check_id: str) -> Outcome:
        if sandbox not in known:
            asked = {spec.get("check_id") for spec in specs if spec.get("sandbox") == sandbox}
            chosen = [check for check in CHECKS if check.id in asked]
            found = asyncio.run(run_all(SANDBOXES[sandbox], chosen, at_once=AT_ONCE))
            known[sandbox] = {outcome.id: outcome for outcome in found}
        return known[sandbox][check_id]

    return find
