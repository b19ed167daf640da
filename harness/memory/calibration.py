"""Calibration: what the provider counted, against what was guessed. Pure, bounded, and slow to be misled."""

from __future__ import annotations

from dataclasses import dataclass

LOWEST, HIGHEST = 0.5, 3.0
"""Tokens a guessed token can stand for. A provider that reports nonsense moves the guess no further."""
WEIGHT = 0.3
"""Of the newest request."""


@dataclass(frozen=True)
class Calibration:
    ratio: float = 1.0
    """Counted tokens for a guessed one."""
    seen: int = 0
    """Requests it rests on."""

    def observe(self, guessed: int, counted: int) -> Calibration:
        """With one more request taken in; without a count, as it was."""
        if guessed <= 0 or counted <= 0:
            return self
        ratio = min(HIGHEST, max(LOWEST, counted / guessed))
        if self.seen:
            ratio = self.ratio + WEIGHT * (ratio - self.ratio)
        return Calibration(ratio, self.seen + 1)

    def tokens(self, guessed: int) -> int:
        return round(guessed * self.ratio)
