"""Interrupts: what a person, or a clock, may do to a running turn.

`Interrupt` is the only handle from outside into the loop: it cancels the turn or one call. Everything
happens on the event loop's thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

Cause = Literal["user", "time"]


class Scope:
    """A block of one task that can be cancelled from outside without ending the task."""

    def __init__(self, task: asyncio.Task[object], call_id: str | None) -> None:
        self.call_id = call_id
        self.cancelled = False
        self._task = task

    def cancel(self) -> None:
        if not self.cancelled:
            self.cancelled = True
            self._task.cancel()


class Interrupt:
    def __init__(self) -> None:
        self.cause: Cause | None = None
        """Why the turn is to stop; None while it may go on."""
        self._scopes: list[Scope] = []

    def cancel_turn(self, cause: Cause = "user") -> None:
        """Stop the model and every running call; their partial results are kept."""
        self.cause = self.cause or cause
        for scope in list(self._scopes):
            scope.cancel()

    def cancel_call(self, call_id: str) -> bool:
        """Stop one call, waiting or running; the turn goes on. False when there is no such call."""
        scopes = [scope for scope in self._scopes if scope.call_id == call_id]
        for scope in scopes:
            scope.cancel()
        return bool(scopes)

    @property
    def calls(self) -> tuple[str, ...]:
        """Ids of the calls that could be cancelled now, waiting or running."""
        return tuple(dict.fromkeys(scope.call_id for scope in self._scopes if scope.call_id is not None))

    def resume(self) -> None:
        """Let another turn begin after one was cancelled."""
        self.cause = None

    @contextmanager
    def scope(self, call_id: str | None = None) -> Iterator[Scope]:
        """Make this block cancellable. Its cancellation ends here; one that came from elsewhere goes on.

        The block may turn its CancelledError into a result. It must not be entered once `cause` is set.
        """
        task = asyncio.current_task()
        assert task is not None
        assert self.cause is None
        before = task.cancelling()
        scope = Scope(task, call_id)
        self._scopes.append(scope)
        try:
            yield scope
        except asyncio.CancelledError:
            if not scope.cancelled:
                raise
        finally:
            self._scopes.remove(scope)
            if scope.cancelled:
                task.uncancel()
            if task.cancelling() > before:
                # Someone else cancelled the whole task while this block was being cancelled.
                raise asyncio.CancelledError
