"""Budgets: what is spent below is spent above, and nothing is unlimited by accident."""

from __future__ import annotations

import pytest

from harness.errors import BudgetSpent
from harness.messages import Usage
from harness.process.budget import Allowance, Budget, allowance
from policies.schema import Limits


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


PLENTY = Allowance(turns=100, tokens=10_000, wall_s=1_000)


def test_a_policys_limits_are_the_allowance():
    limits = Limits(turns=3, tokens=5, cost_usd=0.5, session_s=60)
    assert allowance(limits) == Allowance(turns=3, tokens=5, wall_s=60, cost_usd=0.5)


@pytest.mark.parametrize(
    ("allowed", "says"),
    [
        (Allowance(turns=1, tokens=10_000, wall_s=99), "1 of 1 turns"),
        (Allowance(turns=9, tokens=100, wall_s=99), "100 of 100 tokens"),
        (Allowance(turns=9, tokens=10_000, wall_s=99, cost_usd=0.25), r"\$0\.2500 of \$0\.25"),
    ],
)
def test_each_limit_is_named_when_it_is_reached(allowed, says):
    budget = Budget(allowed)
    budget.check()
    budget.charge(Usage(input_tokens=40, output_tokens=30, cache_read_tokens=20, cache_write_tokens=10), 0.25)
    with pytest.raises(BudgetSpent, match=says):
        budget.check()


def test_wall_clock_and_working_time_are_told_apart():
    clock = Clock()
    budget = Budget(Allowance(turns=9, tokens=9, wall_s=100, working_s=10), clock=clock)
    with budget.working():
        clock.now += 4
        with budget.working():
            clock.now += 2
    clock.now += 50
    assert (budget.elapsed_s, budget.worked_s, budget.remaining_s()) == (56, 6, 4)
    with budget.working():
        clock.now += 4
        with pytest.raises(BudgetSpent, match="working time"):
            budget.check()


def test_the_wall_clock_runs_out():
    clock = Clock()
    budget = Budget(PLENTY, clock=clock)
    clock.now += 1_000
    with pytest.raises(BudgetSpent, match=r"limits\.session_s"):
        budget.check()
    assert budget.remaining_s() == 0


def test_an_unknown_price_is_not_zero():
    budget = Budget(Allowance(turns=9, tokens=9_999, wall_s=99, cost_usd=5))
    budget.charge(Usage(), None)
    assert budget.cost_usd is None
    with pytest.raises(BudgetSpent, match="price is unknown"):
        budget.check()
    without_limit = Budget(PLENTY)
    without_limit.charge(Usage(), None)
    without_limit.check()
    assert without_limit.changed().cost_usd is None


def test_a_child_gets_a_share_of_what_is_left_and_spends_its_parents():
    parent = Budget(Allowance(turns=10, tokens=1_000, wall_s=100, cost_usd=1))
    parent.charge(Usage(input_tokens=200), 0.5)
    child = parent.child(0.5)
    assert (child.allowed.turns, child.allowed.tokens, child.allowed.cost_usd) == (4, 400, 0.25)
    child.charge(Usage(output_tokens=100), 0.25)
    assert parent.turns == 2
    assert parent.usage.total == 300
    assert parent.cost_usd == 0.75
    with pytest.raises(BudgetSpent):
        child.check()
    parent.check()


def test_a_child_stops_when_an_ancestor_has_nothing_left():
    parent = Budget(Allowance(turns=3, tokens=1_000, wall_s=100))
    child = parent.child(1)
    grandchild = child.child(1)
    for _ in range(3):
        parent.charge(Usage(), 0)
    with pytest.raises(BudgetSpent, match="3 of 3 turns"):
        grandchild.check()
    assert grandchild.left().turns == 0


@pytest.mark.parametrize("share", [0, -1, 1.5])
def test_a_share_is_a_part(share):
    with pytest.raises(ValueError, match="share"):
        Budget(PLENTY).child(share)
