"""Grants: answers that stand for more than one petition, until they run out, are revoked or the session ends.

A grant answers exactly what it was given for: a petition of the same kind with the same binding. A command
whose files changed is another petition, so its grant does not speak for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from harness.approvals.petition import Kind, Petition, binding_of
from harness.errors import JournalError
from harness.events import GrantChanged
from harness.process.recorder import Recorder

Standing = Literal["session", "minutes", "always"]


@dataclass(frozen=True)
class Grant:
    name: str
    """Its name in this session, `g1`."""
    kind: Kind
    subject: str
    bound: Mapping[str, object]
    scope: Standing
    until: float | None = None
    """Seconds since the epoch, for `minutes`."""
    ends: float | None = None
    """The same on the clock that nobody sets: this one decides."""
    given: float = 0.0
    """Seconds since the epoch, where a journal tells of it."""

    @property
    def binding(self) -> str:
        return binding_of(self.kind, self.bound)


class Grants:
    """The grants of one session."""

    def __init__(
        self,
        recorder: Recorder,
        *,
        on_given: Callable[[Grant], None] = lambda grant: None,
        on_end: Callable[[Grant], None] = lambda grant: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.on_given = on_given
        """Told each new grant, to open what it gives. It must not raise."""
        self.on_end = on_end
        """Told each grant that is revoked or has run out, to take back what it gave. It must not raise."""
        self._recorder = recorder
        self._clock = clock
        self._live: dict[str, Grant] = {}
        self._given = 0
        self._timers: set[asyncio.Task[None]] = set()

    def live(self) -> list[Grant]:
        """Those that stand now, the oldest first."""
        return [grant for grant in self._live.values() if not self._over(grant)]

    def find(self, petition: Petition) -> Grant | None:
        """The grant that answers this petition, if one does at this moment."""
        for grant in self.live():
            if grant.kind == petition.kind and grant.binding == petition.binding:
                return grant
        return None

    async def give(self, petition: Petition, scope: Standing, minutes: float | None = None) -> Grant:
        """Let an answer stand. It is in the journal when this returns, and before it answers anything."""
        self._given += 1
        lasts_s = None if minutes is None else minutes * 60
        grant = Grant(
            name=f"g{self._given}",
            kind=petition.kind,
            subject=petition.subject,
            bound=petition.bound,
            scope=scope,
            until=None if lasts_s is None else time.time() + lasts_s,
            ends=None if lasts_s is None else self._clock() + lasts_s,
        )
        await self._recorder.record(_changed(grant, "given"), then=partial(self._stand, grant, lasts_s))
        return grant

    def restore(self, grants: Iterable[Grant], given: int) -> None:
        """Let stand again what stood when the session was left; `given` is how many it ever gave.

        One for minutes does not where the clock says that it is yet to be given: nobody knows what is left.
        """
        self._given = given
        now = time.time()
        for grant in grants:
            if grant.until is None:
                self._stand(grant, None)
            elif grant.given <= now < grant.until:
                lasts_s = grant.until - now
                self._stand(replace(grant, ends=self._clock() + lasts_s), lasts_s)

    def _stand(self, grant: Grant, lasts_s: float | None) -> None:
        self._live[grant.name] = grant
        self.on_given(grant)
        if lasts_s is not None:
            timer = asyncio.create_task(self._run_out(grant, lasts_s))
            self._timers.add(timer)
            timer.add_done_callback(self._timers.discard)

    async def revoke(self, name: str) -> Grant | None:
        """End a grant and take back what it gave, at once; None when there is no such grant."""
        return await self._end(name, "revoked")

    def close(self) -> None:
        """The session is over: nothing of it stands any more."""
        self._live.clear()
        for timer in self._timers:
            timer.cancel()

    def _over(self, grant: Grant) -> bool:
        return grant.ends is not None and self._clock() >= grant.ends

    async def _run_out(self, grant: Grant, lasts_s: float) -> None:
        await asyncio.sleep(lasts_s)
        # A journal that cannot be written ends the session at its next entry; the grant is over already.
        with contextlib.suppress(JournalError):
            await self._end(grant.name, "expired")

    async def _end(self, name: str, change: Literal["revoked", "expired"]) -> Grant | None:
        grant = self._live.pop(name, None)
        if grant is None:
            return None
        # Taken back first: a record that fails must not leave a door open.
        self.on_end(grant)
        await self._recorder.record(_changed(grant, change))
        return grant


def _changed(grant: Grant, change: Literal["given", "revoked", "expired"]) -> GrantChanged:
    return GrantChanged(
        grant=grant.name,
        change=change,
        what=grant.subject,
        binding=grant.binding,
        scope=grant.scope,
        until=grant.until,
        petition=grant.kind,
        bound=dict(grant.bound),
    )
