"""Questions to the user about connections that wait: one for each command, host and port at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field

from policies.decide import Decision
from sandbox.egress.report import Ask, Attempt

REMEMBERED = 1000
"""Refusals that are kept in mind, so that a program that tries again does not ask again."""
AT_ONCE = 16
"""Questions of one session that may wait for the user."""
LATE_S = 2.0
"""Whoever asks has a clock of his own, which ends first and knows better what to say."""


@dataclass
class _Question:
    task: asyncio.Task[str | None]
    waiting: int = 0


@dataclass
class Questions:
    ask: Ask
    timeout_s: float
    _open: dict[Hashable, _Question] = field(default_factory=dict)
    _refused: dict[Hashable, str] = field(default_factory=dict)

    async def put(
        self, key: Hashable, attempt: Attempt, decision: Decision, gone: Callable[[], Awaitable[None]]
    ) -> str | None:
        """None for a yes; otherwise why not, in words. ConnectionError when `gone` returns first.

        Who asks the same while a question is open waits for its answer.
        """
        if key in self._refused:
            return self._refused[key]
        question = self._open.get(key)
        if question is None and len(self._open) >= AT_ONCE:
            return "Too many questions wait for the user already."
        if question is None:
            question = _Question(asyncio.ensure_future(self._answer(attempt, decision)))
            self._open[key] = question
        question.waiting += 1
        hung_up = asyncio.ensure_future(gone())
        try:
            await asyncio.wait([question.task, hung_up], return_when=asyncio.FIRST_COMPLETED)
        finally:
            hung_up.cancel()
            question.waiting -= 1
            if not question.waiting or question.task.done():
                # Nobody is left who could use the answer.
                question.task.cancel()
                if self._open.get(key) is question:
                    del self._open[key]
        if not question.task.done() or question.task.cancelled():
            raise ConnectionError("the program hung up before the answer")
        why = question.task.result()
        if why is not None and len(self._refused) < REMEMBERED:
            self._refused[key] = why
        return why

    def forget(self, host: str, port: int) -> None:
        """Refusals for this host and port are no longer kept in mind."""
        self._refused = {key: why for key, why in self._refused.items() if tuple(key)[:2] != (host, port)}  # type: ignore[arg-type]

    async def _answer(self, attempt: Attempt, decision: Decision) -> str | None:
        try:
            async with asyncio.timeout(self.timeout_s + LATE_S):
                said = await self.ask(attempt, decision)
        except TimeoutError:
            return f"The user was asked and did not answer within {self.timeout_s:g} s."
        except Exception:  # noqa: BLE001 (whatever goes wrong with a question, its answer is no)
            return "The user could not be asked."
        return None if said is True else "The user was asked and did not allow it."
