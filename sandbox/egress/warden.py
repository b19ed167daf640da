"""What those who speak a protocol with the program inside ask of the gate, which knows them all."""

from __future__ import annotations

from typing import Protocol

from policies.schema import Policy
from sandbox.egress.live import Live, Way
from sandbox.egress.peers import Outside
from sandbox.egress.report import Spoken


class Warden(Protocol):
    """The gate, to `http`, `socks` and `inspection`."""

    policy: Policy

    def asked_for(self, live: Live, protocol: Spoken, said: str, port: int = 0) -> None:
        """Note what is known of an attempt whose reading may yet fail."""

    async def authorise(
        self,
        live: Live,
        protocol: Spoken,
        host: str,
        port: int,
        *,
        method: str | None = None,
        path: str | None = None,
    ) -> Way:
        """Decide, ask, resolve, check every address, and record. Refused, or Unreached without an address."""

    async def connect(self, live: Live, way: Way) -> Outside:
        """To a checked address. Unreached."""

    async def tunnel(self, live: Live, way: Way, opened: bytes) -> None:
        """Open a tunnel, tell the program so with `opened`, and carry what may be spoken on it."""
