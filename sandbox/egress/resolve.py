"""Names to addresses, on the host and only for names that are allowed: nothing inside can ask a resolver.

All addresses of a name are checked. What leaves through names themselves (the labels under a wildcard) is
bounded by `NameBudget`.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from policies.patterns import is_address
from policies.schema import Policy
from sandbox.egress.addresses import refused_address
from sandbox.egress.errors import Refused, Unreached

Resolver = Callable[[str], Awaitable[Sequence[str]]]
"""All addresses of a canonical name. OSError when there are none. Called within a time limit."""

NAMES_PER_MINUTE = 120
"""Different names a session may have resolved in a minute."""


class SystemResolver:
    """The host's own, in threads of its own: a slow name server holds up no other work."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="usermode-resolve")

    async def __call__(self, name: str) -> Sequence[str]:
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._threads, _look_up, name)
        return tuple(dict.fromkeys(found))


def _look_up(name: str) -> list[str]:
    answers = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return [str(answer[4][0]) for answer in answers]


class NameBudget:
    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seen: dict[str, float] = {}

    def take(self, name: str) -> bool:
        """Whether this name may still be resolved in this minute."""
        now = self._clock()
        if name not in self._seen and len(self._seen) >= NAMES_PER_MINUTE:
            self._seen = {old: at for old, at in self._seen.items() if now - at < 60}
            if len(self._seen) >= NAMES_PER_MINUTE:
                return False
        self._seen.setdefault(name, now)
        return True


class Lookup:
    """The addresses of one session's hosts."""

    def __init__(self, resolver: Resolver, clock: Callable[[], float]) -> None:
        self._resolver, self._names = resolver, NameBudget(clock)

    async def addresses(self, policy: Policy, host: str, *, meant: bool) -> tuple[str, ...]:
        """Resolve once and check every address: one bad address makes a name unfit. `host` is canonical; an
        address that is `meant` may be a private one. Refused, or Unreached.
        """
        if is_address(host):
            found: tuple[str, ...] = (host,)
            checked = () if meant else found
        else:
            checked = found = await self._resolved(host, policy.limits.connect_s)
        for one in checked:
            if why := refused_address(one, policy.network.addresses):
                raise Refused("blocked-private", f"It leads to {why}, which network.addresses does not name.")
        return found

    async def _resolved(self, name: str, within_s: float) -> tuple[str, ...]:
        if not self._names.take(name):
            raise Refused("names", "The session looks up too many different names; try again later.")
        try:
            async with asyncio.timeout(within_s):
                found = tuple(await self._resolver(name))
        except TimeoutError:
            raise Unreached("Its name could not be resolved in time.", late=True) from None
        except OSError:
            raise Unreached("Its name cannot be resolved.") from None
        if not found:
            raise Unreached("Its name has no address.")
        return found
