"""What the user allowed while a session runs: for all of it, or once, to the first command that connects."""

from __future__ import annotations

from collections.abc import Iterable

from policies.egress import Reach
from sandbox.egress.live import Live

Target = tuple[str, int]
"""A canonical host and a port."""


class Given:
    def __init__(self) -> None:
        self._for_all: set[Target] = set()
        self._unclaimed: set[Target] = set()
        self._once: set[tuple[str, int, str]] = set()
        """Claimed by this command. A connection whose command is not known keeps its own: `Live.once`."""

    def give(self, target: Target, *, once: bool) -> None:
        (self._unclaimed if once else self._for_all).add(target)

    def take_back(self, target: Target, open_now: Iterable[Live]) -> None:
        self._for_all.discard(target)
        self._unclaimed.discard(target)
        self._once = {entry for entry in self._once if entry[:2] != target}
        for live in open_now:
            live.once.discard(target)

    def holds(self, live: Live, target: Target) -> bool:
        return (
            target in self._for_all
            or target in self._unclaimed
            or target in live.once
            or (*target, live.origin.call_id) in self._once
        )

    def claim(self, live: Live, target: Target) -> None:
        """A yes that was meant once belongs to this command."""
        if (command := live.origin.call_id) is None:
            live.once.add(target)
        else:
            self._once.add((*target, command))

    def used(self, live: Live, target: Target, reach: Reach) -> None:
        """It got through by `reach`: what was given once, and to nobody yet, is claimed."""
        if reach.by_grant and target in self._unclaimed and target not in self._for_all:
            self._unclaimed.discard(target)
            self.claim(live, target)
