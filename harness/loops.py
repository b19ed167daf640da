"""Loop detection (livelock): a model that does the same and sees the same is told, then stopped.

What is compared is a whole step: its calls with their arguments and what came of them. A step that differs
in anything, the output of a test included, is progress. Cycles of two and three steps count as well.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence
from hashlib import sha256
from typing import Literal

from harness.messages import Call, Result

NOTICE_AT = 3
STOP_AT = 5
PERIODS = (1, 2, 3)


class LoopDetector:
    """Remembers as many steps as the longest cycle needs, and no more."""

    def __init__(self) -> None:
        self._steps: deque[bytes] = deque(maxlen=STOP_AT * max(PERIODS))

    def observe(self, calls: Sequence[Call], results: Sequence[Result]) -> Literal["notice", "stop"] | None:
        """Take a step in; `notice` on its third repetition, `stop` on its fifth, once each."""
        self._steps.append(_signature(calls, results))
        worst: Literal["notice", "stop"] | None = None
        for period in PERIODS:
            if self._repeats(period, STOP_AT):
                return "stop"
            # Exactly the third: a longer run was told already.
            if self._repeats(period, NOTICE_AT) and not self._repeats(period, NOTICE_AT, extra=1):
                worst = "notice"
        return worst

    def _repeats(self, period: int, times: int, extra: int = 0) -> bool:
        wanted = period * times + extra
        # Nearly every step differs from the one a period ago, and that is all there is to see.
        if len(self._steps) < wanted or self._steps[-1] != self._steps[-1 - period]:
            return False
        steps = list(self._steps)[-wanted:]
        if period > 1 and len(set(steps[-period:])) == 1:
            return False  # A shorter cycle, counted as such.
        return all(step == steps[index % period] for index, step in enumerate(steps))


def notice_text() -> str:
    return (
        f"The last {NOTICE_AT} rounds were the same: the same calls, the same results. Repeating them will "
        "not change anything, and the session ends if it goes on. Look at what the results say, then try "
        "something else, or say what is in the way and stop."
    )


def _signature(calls: Sequence[Call], results: Sequence[Result]) -> bytes:
    seen = [[call.name, call.arguments, call.malformed] for call in calls]
    came = [[result.content, result.error] for result in results]
    text = json.dumps([seen, came], sort_keys=True)
    return sha256(text.encode()).digest()
