"""Trying again (retry policy): what a bad day of a model's service costs before the session gives up.

Only transient faults are worth another try. The wait grows exponentially with jitter and is never shorter
than what the service asked for; attempts and the time spent waiting are bounded. Time spent streaming is not
counted: a reply that breaks after ten minutes of thinking deserves its second try. How long one attempt may
be silent is the wire's affair.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass

from tenacity import (
    AsyncRetrying,
    AttemptManager,
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    wait_exponential_jitter,
)
from tenacity.stop import stop_base
from tenacity.wait import wait_base

from harness.provider import TRANSIENT, Delta, Provider, ProviderError, Request, Restarted

OnRetry = Callable[[ProviderError, int, float], None]
"""Told before each wait: what happened, which attempt comes next (the first retry is 2), seconds until then.
"""


@dataclass(frozen=True)
class RetryPolicy:
    attempts: int = 6
    first_wait_s: float = 1.0
    max_wait_s: float = 60.0
    """The longest wait of our own choosing; a service may ask for more."""
    total_wait_s: float = 300.0
    """All waits together. A service that asks for more than is left gets no further attempt."""


async def stream_with_retry(
    provider: Provider,
    request: Request,
    on_retry: OnRetry,
    *,
    policy: RetryPolicy = RetryPolicy(),
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> AsyncGenerator[Delta | Restarted, None]:
    """The provider's stream, asked for again after transient faults; ends with exactly one Reply.

    When a stream breaks after deltas were yielded, `Restarted` comes before the first delta of the next one:
    the consumer discards what it showed. Raises the last ProviderError when it is not transient or patience
    is spent.
    """
    attempts: _Attempts | None = None
    shown = False
    while True:
        if shown:
            yield Restarted()
            shown = False
        try:
            async with aclosing(provider.stream(request)) as deltas:
                async for delta in deltas:
                    shown = True
                    yield delta
            return
        except ProviderError as exc:
            error = exc
        # Made only now: nearly every request is answered at the first attempt.
        attempts = attempts or _Attempts(policy, on_retry, sleep)
        await attempts.wait_after(error)


class _Attempts:
    """What the policy says of one failed attempt after the other."""

    def __init__(
        self, policy: RetryPolicy, on_retry: OnRetry, sleep: Callable[[float], Awaitable[None]]
    ) -> None:
        self._attempts = aiter(
            AsyncRetrying(
                retry=retry_if_exception(_transient),
                stop=stop_after_attempt(policy.attempts) | _Patience(policy),
                wait=_WaitAsAsked(policy),
                before_sleep=lambda state: on_retry(
                    _fault(state), state.attempt_number + 1, state.upcoming_sleep
                ),
                sleep=sleep,
                reraise=True,
            )
        )
        self._current: AttemptManager | None = None

    async def wait_after(self, error: ProviderError) -> None:
        """Returns when it is time for another attempt; raises `error` when there is to be none."""
        if self._current is None:
            self._current = await anext(self._attempts)
        with self._current:
            raise error
        self._current = await anext(self._attempts)


def _transient(exc: BaseException) -> bool:
    return isinstance(exc, ProviderError) and exc.fault in TRANSIENT


def _fault(state: RetryCallState) -> ProviderError:
    assert state.outcome is not None
    exc = state.outcome.exception()
    assert isinstance(exc, ProviderError)
    return exc


class _Patience(stop_base):
    """Stops before a wait that would exceed all the waiting allowed."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._total_s = policy.total_wait_s

    def __call__(self, retry_state: RetryCallState) -> bool:
        return retry_state.idle_for + retry_state.upcoming_sleep > self._total_s


class _WaitAsAsked(wait_base):
    """Exponential with jitter, and never sooner than the service asked for."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._own = wait_exponential_jitter(
            initial=policy.first_wait_s, max=policy.max_wait_s, jitter=policy.first_wait_s
        )

    def __call__(self, retry_state: RetryCallState) -> float:
        own = self._own(retry_state)
        if not isinstance(retry_state.outcome and retry_state.outcome.exception(), ProviderError):
            return own  # Computed, and never used, for what is not retried.
        asked = _fault(retry_state).retry_after_s
        # Everyone who was told the same time must not come back in the same instant.
        return own if asked is None else max(own, asked + random.uniform(0, 1))
