"""Budgets (resource limits): turns, tokens, money, wall clock and working time, in a tree.

A child gets a share of what its parent has left, and what it spends is spent by every ancestor. An unknown
price is not zero: with a limit on cost it is a reason to stop.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from harness.errors import BudgetSpent
from harness.events import BudgetChanged
from harness.messages import Usage
from policies.schema import Limits


@dataclass(frozen=True)
class Allowance:
    turns: int
    """Replies of the model."""
    tokens: int
    """Input and output of all requests, cache reads and writes included."""
    wall_s: float
    """From the budget's creation."""
    cost_usd: float | None = None
    working_s: float | None = None
    """Time in which a model or a call ran; waiting for a person is not counted."""


def allowance(limits: Limits) -> Allowance:
    return Allowance(limits.turns, limits.tokens, limits.session_s, limits.cost_usd)


class Budget:
    """What one session, or one part of it, may still spend."""

    def __init__(
        self,
        allowed: Allowance,
        *,
        clock: Callable[[], float] = time.monotonic,
        parent: Budget | None = None,
    ) -> None:
        self.allowed = allowed
        self.turns = 0
        self.usage = Usage()
        self.cost_usd: float | None = 0.0
        self._clock = clock
        self._parent = parent
        self._started = clock()
        self._worked_s = 0.0
        self._working: tuple[int, float] = (0, 0.0)

    def child(self, share: float) -> Budget:
        """A budget of `share` (0..1] of what is left here, and never more than is left in any ancestor."""
        if not 0 < share <= 1:
            raise ValueError(f"a share is over 0 and at most 1, not {share}")
        left = self.left()
        part = Allowance(
            turns=int(left.turns * share),
            tokens=int(left.tokens * share),
            wall_s=left.wall_s * share,
            cost_usd=None if left.cost_usd is None else left.cost_usd * share,
            working_s=None if left.working_s is None else left.working_s * share,
        )
        return Budget(part, clock=self._clock, parent=self)

    def part(self, allowed: Allowance) -> Budget:
        """A budget of its own within this one: what is spent there is spent here."""
        return Budget(allowed, clock=self._clock, parent=self)

    def absorb(self, turns: int, usage: Usage, cost_usd: float | None) -> None:
        """What another session spent for this one while nobody counted."""
        for budget in self._line():
            budget.turns += turns
            budget.usage = budget.usage.plus(usage)
            known = budget.cost_usd is not None and cost_usd is not None
            budget.cost_usd = (budget.cost_usd or 0.0) + (cost_usd or 0.0) if known else None

    def charge(self, usage: Usage, cost_usd: float | None) -> None:
        """One reply of the model; `cost_usd` is None where its price is unknown."""
        self.turns += 1
        self.usage = self.usage.plus(usage)
        self.cost_usd = None if self.cost_usd is None or cost_usd is None else self.cost_usd + cost_usd
        if self._parent is not None:
            self._parent.charge(usage, cost_usd)

    def spent_before(self, turns: int, usage: Usage, cost_usd: float | None, elapsed_s: float) -> None:
        """What the session had used when it was left; the time nobody ran it is not counted."""
        self.turns, self.usage, self.cost_usd = turns, usage, cost_usd
        self._started = self._clock() - elapsed_s

    def check(self) -> None:
        """BudgetSpent, naming the limit, when nothing may be started any more."""
        for budget in self._line():
            budget._check_own()

    def left(self) -> Allowance:
        """What may still be spent, here and in every ancestor; never below zero."""
        own = [budget._left_own() for budget in self._line()]
        return Allowance(
            turns=min(part.turns for part in own),
            tokens=min(part.tokens for part in own),
            wall_s=min(part.wall_s for part in own),
            cost_usd=_least([part.cost_usd for part in own]),
            working_s=_least([part.working_s for part in own]),
        )

    def remaining_s(self) -> float:
        """Seconds until a clock of this budget, or of an ancestor, runs out."""
        left = self.left()
        return left.wall_s if left.working_s is None else min(left.wall_s, left.working_s)

    @property
    def elapsed_s(self) -> float:
        return self._clock() - self._started

    @property
    def worked_s(self) -> float:
        running, since = self._working
        return self._worked_s + (self._clock() - since if running else 0.0)

    @contextmanager
    def working(self) -> Iterator[None]:
        """Count the time of this block as work; blocks that overlap are counted once."""
        for budget in self._line():
            running, since = budget._working
            budget._working = (running + 1, since if running else budget._clock())
        try:
            yield
        finally:
            for budget in self._line():
                running, since = budget._working
                if running == 1:
                    budget._worked_s += budget._clock() - since
                budget._working = (running - 1, since)

    def changed(self) -> BudgetChanged:
        return BudgetChanged(
            turns=self.turns,
            tokens=self.usage.total,
            cost_usd=self.cost_usd,
            elapsed_s=round(self.elapsed_s, 3),
        )

    def _line(self) -> Iterator[Budget]:
        budget: Budget | None = self
        while budget is not None:
            yield budget
            budget = budget._parent

    def _check_own(self) -> None:
        allowed = self.allowed
        if self.turns >= allowed.turns:
            raise BudgetSpent(f"{self.turns} of {allowed.turns} turns are used (limits.turns)")
        if self.usage.total >= allowed.tokens:
            raise BudgetSpent(f"{self.usage.total:,} of {allowed.tokens:,} tokens are used (limits.tokens)")
        if self.elapsed_s >= allowed.wall_s:
            raise BudgetSpent(f"the session's {allowed.wall_s:g} s are over (limits.session_s)")
        if allowed.working_s is not None and self.worked_s >= allowed.working_s:
            raise BudgetSpent(f"the {allowed.working_s:g} s of working time are over")
        if allowed.cost_usd is None:
            return
        if self.cost_usd is None:
            raise BudgetSpent(
                "a reply's price is unknown, so the limit on cost cannot be kept (limits.cost_usd)"
            )
        if self.cost_usd >= allowed.cost_usd:
            raise BudgetSpent(f"${self.cost_usd:.4f} of ${allowed.cost_usd:g} are spent (limits.cost_usd)")

    def _left_own(self) -> Allowance:
        allowed = self.allowed
        spent = self.cost_usd if self.cost_usd is not None else float("inf")
        return Allowance(
            turns=max(0, allowed.turns - self.turns),
            tokens=max(0, allowed.tokens - self.usage.total),
            wall_s=max(0.0, allowed.wall_s - self.elapsed_s),
            cost_usd=None if allowed.cost_usd is None else max(0.0, allowed.cost_usd - spent),
            working_s=None if allowed.working_s is None else max(0.0, allowed.working_s - self.worked_s),
        )


def _least(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return min(known) if known else None
