"""What a check is, the table of all of them, and running them against any sandbox."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Literal

from sandbox.protocol import Sandbox

CHECK_S = 90.0
"""A check that takes longer has failed: the sandbox hangs."""

OpenSandbox = Callable[[], AbstractAsyncContextManager[Sandbox]]


@dataclass(frozen=True)
class Check:
    id: str
    statement: str
    """The contract, as one sentence."""
    body: Callable[[Sandbox], Awaitable[None]]

    async def run(self, box: Sandbox) -> None:
        """AssertionError when the sandbox does not keep the contract."""
        limit = asyncio.timeout(CHECK_S)
        try:
            async with limit:
                await self.body(box)
        except TimeoutError as exc:
            hung = f"not done after {CHECK_S:g} s"
            raise AssertionError(
                hung if limit.expired() else "what should happen soon did not happen"
            ) from exc


@dataclass(frozen=True)
class Outcome:
    id: str
    statement: str
    status: Literal["kept", "broken", "error"]
    """`error`: something else than the contract went wrong, e.g. no sandbox could be opened."""
    detail: str
    duration_s: float


CHECKS: list[Check] = []


def check(
    id: str, statement: str
) -> Callable[[Callable[[Sandbox], Awaitable[None]]], Callable[[Sandbox], Awaitable[None]]]:
    """Enter a function into the table."""

    def enter(body: Callable[[Sandbox], Awaitable[None]]) -> Callable[[Sandbox], Awaitable[None]]:
        if any(known.id == id for known in CHECKS):
            raise ValueError(f"two checks are called {id}")
        CHECKS.append(Check(id, statement, body))
        return body

    return enter


async def run_one(open: OpenSandbox, one: Check) -> Outcome:
    """In a sandbox of its own."""
    began = time.monotonic()
    status: Literal["kept", "broken", "error"] = "kept"
    detail = ""
    try:
        async with open() as box:
            await one.run(box)
    except AssertionError as exc:
        status, detail = "broken", str(exc)
    except Exception as exc:  # noqa: BLE001 - whatever a stranger's sandbox raises is an answer to report
        status, detail = "error", f"{type(exc).__name__}: {exc}"
    return Outcome(one.id, one.statement, status, detail, time.monotonic() - began)


async def run_each(
    open: OpenSandbox, checks: Iterable[Check] = CHECKS, *, at_once: int = 1
) -> AsyncIterator[Outcome]:
    """Told as they end; `at_once` of them run at a time, which mostly wait."""
    slots = asyncio.Semaphore(at_once)

    async def wait_and_run(one: Check) -> Outcome:
        async with slots:
            return await run_one(open, one)

    tasks = [asyncio.create_task(wait_and_run(one), name=one.id) for one in checks]
    try:
        for task in asyncio.as_completed(tasks) if at_once > 1 else tasks:
            yield await task
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def run_all(open: OpenSandbox, checks: Iterable[Check] = CHECKS, *, at_once: int = 1) -> list[Outcome]:
    return [outcome async for outcome in run_each(open, checks, at_once=at_once)]
