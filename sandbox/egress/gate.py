"""The gate (egress proxy): where every connection out of a sandbox ends, is decided, and is carried on.

Fail-closed throughout: without a clear reading, a rule, a checked address, a recorded decision or an answer
there is no connection. One gate serves one session; its state ends with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType

from policies.egress import (
    Reach,
    decide_connection,
    decide_request,
    has_request_rules,
    names_address,
    ungranted,
)
from policies.patterns import canonical_host, is_address
from policies.schema import Policy
from sandbox.egress import environment, http, peers, socks, trust, tunnel
from sandbox.egress.addresses import refused_address
from sandbox.egress.errors import EgressError, Malformed, Refused, Unreached
from sandbox.egress.given import Given
from sandbox.egress.greeting import require_named_host
from sandbox.egress.inspection import Inspection
from sandbox.egress.live import HEAD_S, Live, Pace, Traffic, Way
from sandbox.egress.peers import Guest, Outside
from sandbox.egress.questions import Questions
from sandbox.egress.report import Ask, Attempt, Closed, Decided, Report, Spoken, nobody, printable, unheard
from sandbox.egress.resolve import Lookup, Resolver, SystemResolver
from sandbox.protocol import Connection

TELL_S = 5.0
"""For the last words to a program, which may not be listening."""


class Gate:
    """A `protocol.Gatekeeper`. Made and used in one event loop."""

    def __init__(
        self,
        policy: Policy,
        *,
        ask: Ask = nobody,
        report: Report = unheard,
        resolver: Resolver | None = None,
        clock: Callable[[], float] = time.monotonic,
        inspection: Inspection | None = None,
        tools: Mapping[str, str] = MappingProxyType({}),
        above: Gate | None = None,
    ) -> None:
        """`ask` puts a question to the user and returns True for a yes. `report` is awaited with every
        `Decided` before anything is sent, and with a `Closed` at the end; if it raises, nothing is sent.
        `inspection` is made here where the policy wants one and none is given; `tools` is what presets tell
        the tools inside. What moves counts in the gate `above`, too. SandboxRefused when a secret or a file
        of certificates cannot be had.
        """
        self.policy = policy
        self._report, self._clock = report, clock
        self._lookup = Lookup(resolver if resolver is not None else SystemResolver(), clock)
        self._questions = Questions(ask, policy.sudo.timeout_s)
        self._slots = asyncio.Semaphore(policy.limits.connections)
        self._traffic: Traffic = Traffic(policy.limits, above=None if above is None else above._traffic)
        self._pace = Pace(clock)
        self._live: set[Live] = set()
        self._count = 0
        self._given = Given()
        network = policy.network
        if inspection is None and network.intercept:
            inspection = Inspection(policy, os.environ)
        self._inspection = inspection
        self._tools = tools
        self._bundle = trust.bundle(network.ca_file) if network.ca_file else None
        if self._inspection is not None:
            self._bundle = self._inspection.bundle

    port = environment.PORT

    @property
    def environment(self) -> Mapping[str, str]:
        given = {**environment.variables(self.port), **self._tools}
        if self._bundle is not None:
            given |= trust.ENVIRONMENT
        if self._inspection is not None:
            given |= self._inspection.secrets.environment
        return MappingProxyType(given)

    @property
    def files(self) -> Mapping[str, bytes]:
        return {} if self._bundle is None else {trust.BUNDLE: self._bundle}

    def grant(self, host: str, port: int, *, once: bool = False) -> None:
        """The user allows this host and port: for the session until `revoke`, or `once`, to the first command
        that connects to it. Deny rules still hold. ValueError for a host that has no canonical form.
        """
        target = _target(host, port)
        self._given.give(target, once=once)
        self._questions.forget(*target)

    def revoke(self, host: str, port: int) -> None:
        """Take back all that the user allowed for this host and port; what is open by it is cut at once."""
        self._given.take_back(_target(host, port), self._live)
        self._cut_what_is_not_allowed("the user took the grant back")

    def release_secret(self, name: str) -> None:
        """The user approved the use of this bound secret, until `withhold_secret`."""
        if self._inspection is None:
            raise KeyError(name)
        self._inspection.secrets.release(name)

    def withhold_secret(self, name: str) -> None:
        if self._inspection is not None:
            self._inspection.secrets.withhold(name)

    def account(self, *, bytes_out: int, bytes_in: int, connections: int = 0) -> None:
        """Count what the session moved without this gate: through one that ended with its harness."""
        self._count += connections
        self._traffic.bytes_out += bytes_out
        self._traffic.bytes_in += bytes_in

    def allow_bytes(self, egress_mb: int) -> None:
        """The session may send this much in all, in place of the policy's `egress_mb`."""
        self._traffic.limits = self._traffic.limits.model_copy(update={"egress_mb": egress_mb})

    def replace_policy(self, policy: Policy) -> None:
        """Decide by this one from now on; what is open and not allowed by it is cut. Limits stay."""
        self.policy = policy
        self._cut_what_is_not_allowed("the policy no longer allows it")

    def cut_all(self, why: str) -> None:
        """End every open connection at once."""
        for live in self._live:
            live.cut(why)

    async def serve(self, connection: Connection) -> None:
        """Carry one connection to its end, when a place is free."""
        guest = Guest(connection)
        try:
            async with self._slots:
                self._count += 1
                live = Live(self._count, guest, self._traffic, self._clock)
                self._live.add(live)
                try:
                    await self._to_the_end(live)
                finally:
                    self._live.discard(live)
                    if live.upstream is not None:
                        live.upstream.abort()
        except Exception:  # noqa: BLE001 (a record that cannot be written, most likely: nothing more happens)
            guest.abort()
        except BaseException:
            guest.abort()
            raise

    async def _to_the_end(self, live: Live) -> None:
        error: EgressError | None = None
        try:
            async with live:
                await self._carry(live)
        except EgressError as failure:
            error = failure
        except ConnectionError:
            error = Unreached("The connection broke off.")
        except asyncio.CancelledError:
            await self._close(live, "the session ended")
            raise
        if isinstance(error, Refused | Malformed):
            rule = error.rule if isinstance(error, Refused) else "malformed"
            await self._record(Decided(live.attempt, "deny", rule, str(error)))
        if error is not None:
            await _tell(live, error)
        await self._close(live, str(error) if error is not None else "done")

    async def _close(self, live: Live, why: str) -> None:
        if live.target is not None:
            moved = live.bytes_out, live.bytes_in
            await self._report(Closed(live.number, *moved, round(live.duration_s(), 6), why))

    async def _carry(self, live: Live) -> None:
        try:
            async with asyncio.timeout(HEAD_S):
                if not await live.guest.more():
                    return
        except TimeoutError:
            raise Malformed("nothing was said in time", 408) from None
        if live.guest.unused[0] == socks.VERSION:
            await socks.serve_socks(self, live)
        else:
            await http.serve_http(self, live)

    def asked_for(self, live: Live, protocol: Spoken, said: str, port: int = 0) -> None:
        """Note what is known of an attempt whose reading may yet fail."""
        live.attempt = Attempt(live.number, protocol, said, port, live.origin)

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
        name = canonical_host(host)
        plain = printable(path.partition("?")[0]) if path is not None else None
        live.attempt = attempt = Attempt(
            live.number, protocol, name or printable(host), port, live.origin, method, plain
        )
        if name is None:
            raise Refused("unclear host", "The host has no clear reading.")
        reach = await self._reach(live, attempt)
        if path is not None and method is not None:
            asked = decide_request(self.policy, name, method, path)
            if asked.action != "allow":
                raise Refused(asked.rule, asked.reason, self._hint(name, port, asked.rule))
        elif has_request_rules(self.policy, name) and not self.policy.network.intercept:
            raise Refused(
                "network.requests", "Its requests are limited, and inside a tunnel they cannot be seen."
            )
        open_one = live.upstream
        if open_one is not None and (open_one.host, open_one.port) == (name, port) and open_one.is_quiet():
            addresses: tuple[str, ...] = ()
        else:
            # An address that the policy or the user names is meant; a name never stands for a private one.
            meant = is_address(name) and (reach.by_grant or names_address(self.policy, name, port))
            addresses = await self._lookup.addresses(self.policy, name, meant=meant)
        live.target = name, port
        if self._decide(live, name, port).action != "allow":
            # The user changed his mind while the name was looked up.
            raise Refused("revoked", "It is no longer allowed.")
        shown = ", ".join(addresses[: peers.CANDIDATES]) if addresses else None
        if shown is None and open_one is not None:
            shown = open_one.address
        await self._record(Decided(attempt, "allow", reach.rule, reach.reason, shown))
        return Way(name, port, addresses, reach)

    async def connect(self, live: Live, way: Way) -> Outside:
        """To a checked address. Unreached."""
        live.touch()
        raw = await peers.connect(way.host, way.port, way.addresses, self.policy.limits.connect_s)
        live.upstream = raw
        if live.secrets is not None and self._inspection is not None:
            live.upstream = await self._inspection.secure(raw)
        return live.upstream

    async def tunnel(self, live: Live, way: Way, opened: bytes) -> None:
        """Open a tunnel, tell the program so, and carry what may be spoken on it."""
        upstream = await self.connect(live, way)
        live.answer = None
        await live.guest.send(opened)
        if tunnel.may_be_anything(way) and not self._reads(way.host):
            await tunnel.splice(live, live.guest, upstream, tls=way, perhaps_tls=True)
        elif way.port == tunnel.HTTPS or await tunnel.begins_with_tls(live.guest):
            await require_named_host(live.guest, way)
            if self._inspection is not None:
                await self._inspection.carry(self, live, way)
            else:
                await tunnel.splice(live, live.guest, upstream, tls=way)
        else:
            await http.serve_http(self, live, inside=way)

    def _reads(self, host: str) -> bool:
        """Whether what is said to this host must be read, on whatever port."""
        bound = self._inspection is not None and self._inspection.secrets.binds(host)
        return bound or has_request_rules(self.policy, host)

    async def _reach(self, live: Live, attempt: Attempt) -> Reach:
        host, port = attempt.host, attempt.port
        reach = self._decide(live, host, port)
        if reach.action == "ask":
            if is_address(host) and (why := refused_address(host, self.policy.network.addresses)):
                raise Refused("private address", f"The address is {why}.", self._hint(host, port, "address"))
            live.hold()
            key = (host, port, live.origin.call_id or live.number)
            why_not = await self._questions.put(key, attempt, reach, live.guest.gone)
            live.touch()
            if why_not is not None:
                raise Refused(reach.rule, why_not)
            self._given.claim(live, (host, port))
            return ungranted(reach)
        if reach.action != "allow":
            raise Refused(reach.rule, reach.reason, self._hint(host, port, reach.rule))
        self._given.used(live, (host, port), reach)
        return reach

    async def _record(self, decided: Decided) -> None:
        """Nothing happens before this has returned, and a record is no way to fill the host's disk."""
        await self._pace.step()
        await self._report(decided)

    def _decide(self, live: Live, host: str, port: int) -> Reach:
        granted = [_entry(host, port)] if self._given.holds(live, (host, port)) else []
        return decide_connection(self.policy, host, port, granted=granted)

    def _cut_what_is_not_allowed(self, why: str) -> None:
        for live in self._live:
            if live.target is not None and self._decide(live, *live.target).action != "allow":
                live.cut(why)

    def _hint(self, host: str, port: int, rule: str) -> str:
        if rule.startswith("rule "):
            return "A rule of the policy forbids it; asking does not help."
        ways = [f"list it in the policy (network.allow {_entry(host, port)})"]
        if "network" in self.policy.sudo.may_ask:
            ways.insert(0, f"ask the user with sudo: network {_entry(host, port)}")
        return f"To be let through, {', or '.join(ways)}."


async def _tell(live: Live, error: EgressError) -> None:
    """Tell the program what became of it; or break off, where that would look like a part of its stream."""
    if live.answer is None:
        live.guest.abort()
        return
    with contextlib.suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(TELL_S):
            await live.guest.send(live.answer(error))


def _target(host: str, port: int) -> tuple[str, int]:
    name = canonical_host(host)
    if name is None or not 1 <= port <= 65_535:
        raise ValueError(f"{host!r}:{port} is no host and port")
    return name, port


def _entry(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
