"""One connection while it is carried: its clock, what it has moved, and the means to cut it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from policies.egress import Reach
from policies.schema import Limits
from sandbox.egress.bound import BoundSecrets
from sandbox.egress.errors import Cut, EgressError
from sandbox.egress.peers import Guest, Outside
from sandbox.egress.report import Attempt
from sandbox.protocol import Origin

HEAD_S = 30.0
"""For a complete request head, SOCKS greeting or ClientHello."""
FINE_S = 1.0
"""How exactly the idle time is kept; moving the deadline for every piece would cost more than the piece."""


@dataclass
class Traffic:
    """What a session has moved through its gate."""

    limits: Limits
    bytes_out: int = 0
    bytes_in: int = 0
    above: Traffic | None = None
    """Of the session that started this one: what moves here counts there as well."""

    def sent(self, size: int) -> None:
        """Account for bytes before they go out. Cut when the session may send no more."""
        if self.bytes_out + size > self.limits.egress_mb << 20:
            raise Cut(f"the session has sent all it may (limits.egress_mb {self.limits.egress_mb})")
        if self.above is not None:
            self.above.sent(size)
        self.bytes_out += size

    def received(self, size: int) -> None:
        if self.bytes_in + size > self.limits.ingress_mb << 20:
            raise Cut(f"the session has received all it may (limits.ingress_mb {self.limits.ingress_mb})")
        if self.above is not None:
            self.above.received(size)
        self.bytes_in += size


class Pace:
    """How fast a session decides, as each decision is a record on the host: at once for a good many, then
    steadily."""

    AT_ONCE = 5000
    PER_SECOND = 50

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self._last = clock, clock()
        self._left = float(self.AT_ONCE)

    async def step(self) -> None:
        now = self._clock()
        self._left = min(self.AT_ONCE, self._left + (now - self._last) * self.PER_SECOND) - 1
        self._last = now
        if self._left < 0:
            await asyncio.sleep(-self._left / self.PER_SECOND)


@dataclass(frozen=True)
class Way:
    """Where an allowed connection goes."""

    host: str
    port: int
    addresses: tuple[str, ...]
    """Checked; empty where an open connection is used again."""
    reach: Reach


class Live:
    """Entered for the time the connection is carried; leaving it by a cut raises Cut."""

    def __init__(self, number: int, guest: Guest, traffic: Traffic, clock: Callable[[], float]) -> None:
        self.number, self.guest, self._traffic = number, guest, traffic
        self._clock, self.began = clock, clock()
        self.bytes_out = self.bytes_in = 0
        self.attempt = Attempt(number, "unknown", "", 0, guest.origin)
        """What it asks for now."""
        self.target: tuple[str, int] | None = None
        """Host and port it is allowed to, from the moment it is."""
        self.once: set[tuple[str, int]] = set()
        """What the user allowed this one connection, where its command is not known."""
        self.upstream: Outside | None = None
        self.secrets: BoundSecrets | None = None
        """Set once its TLS is looked into: what may be put into requests, and is masked in responses."""
        self.answer: Callable[[EgressError], bytes] | None = None
        """How the program is told of a failure now; None while nothing may be put into its stream."""
        self._why: str | None = None
        self._scope: asyncio.Timeout | None = None
        self._moved = 0.0

    @property
    def origin(self) -> Origin:
        return self.guest.origin

    async def __aenter__(self) -> Live:
        self._scope = asyncio.timeout(None)
        await self._scope.__aenter__()
        self.touch()
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._scope is not None
        try:
            await self._scope.__aexit__(*error)  # type: ignore[arg-type]
        except TimeoutError:
            why = self._why or f"nothing moved for {self._traffic.limits.idle_s:g} s (limits.idle_s)"
            raise Cut(why) from None

    def sent(self, size: int) -> None:
        """Before bytes go to the other side."""
        self._traffic.sent(size)
        self.bytes_out += size
        self._move()

    def received(self, size: int) -> None:
        """Before bytes from the other side go inside."""
        self._traffic.received(size)
        self.bytes_in += size
        self._move()

    def touch(self) -> None:
        """The idle time begins anew."""
        self._moved = asyncio.get_running_loop().time()
        self._schedule(self._moved + self._traffic.limits.idle_s)

    def hold(self) -> None:
        """No idle time while somebody thinks about a question; `touch` ends that."""
        self._schedule(None)

    def cut(self, why: str) -> None:
        """End it now, both ways."""
        self._why = why
        self._schedule(asyncio.get_running_loop().time())

    def duration_s(self) -> float:
        return self._clock() - self.began

    def _move(self) -> None:
        if asyncio.get_running_loop().time() - self._moved > FINE_S:
            self.touch()

    def _schedule(self, when: float | None) -> None:
        cutting = when is not None and self._why is not None
        if self._scope is None or self._scope.expired() or (self._why is not None and not cutting):
            return
        self._scope.reschedule(asyncio.get_running_loop().time() if cutting else when)
