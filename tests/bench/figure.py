"""A figure: what was measured, what it stands beside, and what it has to meet."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tests.bench.sampling import Series, quantile


class NotMeasured(Exception):
    """A figure cannot be had on this machine, or what was timed did not do what it should have done."""


@dataclass(frozen=True)
class Target:
    limit: float
    """In the series' own unit."""
    at_least: bool = False
    of: Literal["median", "worst"] = "median"

    def value(self, ours: Series) -> float:
        if self.of == "median":
            return ours.median
        return ours.samples[0] if self.at_least else ours.samples[-1]

    def met(self, ours: Series) -> bool:
        value = self.value(ours)
        return value >= self.limit if self.at_least else value <= self.limit


@dataclass(frozen=True)
class Beside:
    """A series that ours is compared with."""

    series: Series
    most: float | None = None
    """Ours is at most this many times as much; None for orientation alone."""

    def ratio(self, ours: Series) -> float:
        """Ours to theirs: the median over the rounds where both were taken in the same ones."""
        if len(ours.rounds) != len(self.series.rounds):
            return ours.median / self.series.median
        pairs = zip(ours.rounds, self.series.rounds, strict=True)
        return quantile(sorted(_middle(one) / _middle(other) for one, other in pairs), 0.5)


@dataclass(frozen=True)
class Figure:
    title: str
    ours: Series
    target: Target | None = None
    beside: tuple[Beside, ...] = field(default=())

    @property
    def met(self) -> bool | None:
        """None when there is nothing to meet."""
        verdicts = [] if self.target is None else [self.target.met(self.ours)]
        verdicts += [one.ratio(self.ours) <= one.most for one in self.beside if one.most is not None]
        return all(verdicts) if verdicts else None


def _middle(samples: tuple[float, ...]) -> float:
    return quantile(sorted(samples), 0.5)
