"""Decide a connection out of the sandbox (the firewall): a host and a port, read once, over the policy.

Pure and fail-closed, like `decide.py`: an empty list allows nothing, a host without one clear reading is
refused, and a rule that speaks of every syscall at once never opens the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from policies.decide import Decision
from policies.index import Entry, index_of
from policies.patterns import canonical_host, host_matches, is_address, normal_path, path_matches, split_entry
from policies.schema import Action, Policy

SYSCALL = "network"
"""What rules call a connection."""

_UNRESERVED = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~")
_PLAIN = _UNRESERVED | frozenset(b"/!$&'()*+,=:@")
"""What may stand in a path as itself; `;` has had too many meanings."""


@dataclass(frozen=True)
class Reach(Decision):
    """A decision about a connection."""

    named_port: bool = False
    """The policy or the user named this very port, so any protocol may be spoken on it."""
    by_grant: bool = False
    """The user's answer allows it, not the policy."""


def decide_connection(policy: Policy, host: str, port: int, *, granted: Sequence[str] = ()) -> Reach:
    """Deny rules, then what the user granted (entries with a port), ask rules, the list, rules that name a
    host; without any of them a question or a refusal, as `network.ask` says.
    """
    name = canonical_host(host)
    if name is None or not 1 <= port <= 65_535:
        return Reach("deny", "unclear host", "The host or the port has no clear reading.")
    for entry in _about(policy, "deny", name):
        return Reach("deny", entry.name, entry.rule.reason)
    for grant in granted:
        if (name, port) == split_entry(grant):
            return Reach("allow", f"grant {grant}", "The user allowed it.", named_port=True, by_grant=True)
    listed = _listed(policy, name, port)
    for entry in _about(policy, "ask", name):
        if entry.rule.tightens and listed is None and not policy.network.ask:
            continue  # Its question would be looser than the refusal.
        named = listed is not None and listed.named_port
        return Reach("ask", entry.name, entry.rule.reason, named_port=named)
    if listed is not None:
        return listed
    if policy.network.ask:
        return Reach("ask", "network.ask", f"{_shown(name, port)} is not listed in network.allow.", True)
    return Reach("deny", "network.allow", _why_not(policy, name, port))


def _listed(policy: Policy, host: str, port: int) -> Reach | None:
    """By an entry of `network.allow`, or by an allow rule for the network that names a host."""
    usual = port in policy.network.ports
    found: Reach | None = None
    for listed, pattern, its_port in index_of(policy).hosts:
        if (its_port == port or (its_port is None and usual)) and host_matches(pattern, host):
            reach = Reach("allow", f"network.allow {listed}", "The policy lists it.", its_port is not None)
            if reach.named_port:
                return reach
            found = found or reach
    if found is None and usual:
        # One that speaks of every syscall or of every host opens nothing.
        for rule in _about(policy, "allow", host):
            if rule.syscall == SYSCALL and rule.host is not None:
                return Reach("allow", rule.name, rule.rule.reason)
    return found


def _about(policy: Policy, action: Action, host: str) -> list[Entry]:
    """The rules that speak of a connection to this host: without a condition on what none has."""
    return [
        entry
        for entry in index_of(policy).entries
        if (entry.syscall == SYSCALL or entry.syscall == "*")
        and entry.rule.action == action
        and entry.command is None
        and entry.path is None
        and (entry.host is None or host_matches(entry.host, host))
    ]


def _why_not(policy: Policy, host: str, port: int) -> str:
    if not policy.network.allow:
        return f"The policy {policy.name} allows no host at all."
    other = next((p for p in policy.network.ports if _listed(policy, host, p) is not None), None)
    if other is not None:
        return f"{host} is allowed, but not on port {port}."
    return f"{_shown(host, port)} is not listed in network.allow of policy {policy.name}."


def _shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def has_request_rules(policy: Policy, host: str) -> bool:
    """Whether requests to this canonical host are limited, so that only what can be read may pass."""
    return any(host_matches(rule.host, host) for rule in policy.network.requests)


def decide_request(policy: Policy, host: str, method: str, path: str) -> Decision:
    """For a canonical host: allow where nothing limits its requests, or where a rule allows this one.

    `path` is the request's target from its first slash on; what is decided is its `normal_target`, and that
    is what must be sent.
    """
    if not has_request_rules(policy, host):
        return Decision("allow", "default", "Requests to this host are not limited.")
    target = normal_target(path)
    if target is None:
        return Decision("deny", "network.requests", "The path has more than one reading.")
    plain = target.partition("?")[0]
    for number, rule in enumerate(policy.network.requests, 1):
        if (
            host_matches(rule.host, host)
            and method in rule.methods
            and any(path_matches(glob, plain) for glob in rule.paths)
        ):
            return Decision("allow", f"network.requests {number}", rule.reason)
    return Decision("deny", "network.requests", f"No rule allows this {method} to {host}.")


def normal_target(target: str) -> str | None:
    """A request target with one reading: unreserved characters decoded, no dot segments or doubled slashes.

    None where servers differ (an encoded slash, a NUL, `;`, a backslash); the query is kept as it is.
    """
    path, mark, query = target.partition("?")
    if not path.startswith("/") or not path.isascii() or "#" in target:
        return None
    decoded = bytearray()
    raw, at = path.encode("ascii"), 0
    while at < len(raw):
        byte = raw[at]
        at += 1
        if byte == ord("%"):
            try:
                byte = int(raw[at : at + 2].decode("ascii"), 16) if len(raw[at : at + 2]) == 2 else -1
            except ValueError:
                return None
            if byte in (-1, 0, ord("/"), ord("\\"), ord(";"), ord("%")) or not raw[at : at + 2].isalnum():
                return None
            at += 2
            decoded += bytes([byte]) if byte in _UNRESERVED else b"%%%02X" % byte
        elif byte in _PLAIN:
            decoded.append(byte)
        else:
            return None
    text = decoded.decode("ascii")
    normal = normal_path(text)
    if normal is None:
        return None
    # A directory and a file of the same name are two resources to a server.
    if normal != "/" and text.endswith(("/", "/.", "/..")):
        normal += "/"
    return normal + mark + query


def ungranted(reach: Reach) -> Reach:
    """The same, after the user said yes to its question."""
    return replace(reach, action="allow", reason="The user allowed it.", by_grant=True)


def names_address(policy: Policy, host: str, port: int) -> bool:
    """Whether the policy itself lists this address, so that it is meant even where it is private."""
    return is_address(host) and _listed(policy, host, port) is not None
