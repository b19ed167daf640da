"""Settings that a policy may hold and that give away more than they seem to, or do nothing.

A finding is advice, never an error: what cannot be meant is refused when the policy loads.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal

from policies.commands import runs_others
from policies.egress import SYSCALL
from policies.index import describe_rule
from policies.patterns import host_covers, path_matches, split_entry
from policies.schema import Policy, Rule

_TENANTS = (
    "s3",
    "storage",
    "blob",
    "bucket",
    "cdn",
    "pages",
    "usercontent",
    "apps",
    "cloud",
    "git",
    "static",
)
"""Words in names below which anybody may publish."""
_KEPT = """
    .ssh/id_ed25519 .aws/credentials .gnupg/secring.gpg .netrc .docker/config.json .kube/config .npmrc .pypirc
    .git-credentials .config/gh/hosts.yml .config/gcloud/credentials.db .mozilla/firefox/x .password-store/x
"""
_SYSTEM = ("/etc/shadow", "/run/docker.sock", "/var/run/docker.sock", "/var/lib/docker/x", "/proc/1/environ")
_RANK = {"deny": 2, "ask": 1, "allow": 0}


@dataclass(frozen=True)
class Finding:
    level: Literal["warning", "note"]
    key: str
    text: str


def lint(policy: Policy, syscalls: Collection[str] = ()) -> list[Finding]:
    """What stands out, in the order of the tables. `syscalls` are the names a rule may be about; without
    them no name is doubted.
    """
    return [
        *_network(policy),
        *_workspace_and_container(policy),
        *_secrets(policy),
        *_sudo(policy),
        *_rules(policy, syscalls),
    ]


def _warn(key: str, text: str) -> Finding:
    return Finding("warning", key, text)


def _note(key: str, text: str) -> Finding:
    return Finding("note", key, text)


def _network(policy: Policy) -> Iterator[Finding]:
    network = policy.network
    for entry in network.allow:
        if entry.startswith("@"):
            continue
        pattern, port = split_entry(entry)
        if pattern.startswith("*."):
            yield from _wildcard(entry, pattern[2:].split("."))
        if port == 22:
            yield _warn("network.allow", f"{entry}: inside ssh the gate sees nothing, not even a name")
    if 22 in network.ports:
        yield _warn("network.ports", "22: every listed host takes ssh, and inside it the gate sees nothing")
    for port in sorted(set(network.ports) - {22, 80, 443}):
        yield _note("network.ports", f"{port}: open on every listed host; an entry can name its own port")
    for text in network.addresses:
        yield from _private(text)
    if network.intercept and not network.requests and not policy.secrets.bound:
        yield _note(
            "network.intercept", "nothing needs it: there are no rules on requests and no bound secrets"
        )
    for rule in network.requests:
        if not _reachable(policy, rule.host):
            yield _warn("network.requests", f"{rule.host} is not in network.allow, so it is never reached")
    if network.ask and "network" not in policy.sudo.may_ask:
        yield _warn("network.ask", "asks about hosts, though sudo.may_ask does not name network")


def _wildcard(entry: str, labels: list[str]) -> Iterator[Finding]:
    if len(labels) == 1 or (len(labels) == 2 and len(labels[1]) == 2 and len(labels[0]) <= 3):
        yield _warn("network.allow", f"{entry}: names of everybody below a public suffix")
    elif any(word in label for label in labels[:-1] for word in _TENANTS):
        yield _warn(
            "network.allow", f"{entry}: looks like a service where anybody may have a name; list names"
        )
    elif len(labels) == 2:
        yield _note(
            "network.allow", f"{entry}: every name below it, whoever it was given to; list names if you can"
        )


def _private(text: str) -> Iterator[Finding]:
    range_ = ipaddress.ip_network(text)
    for special, what in (
        ("169.254.169.254", "the metadata service"),
        ("127.0.0.1", "this machine's own services"),
    ):
        if ipaddress.ip_address(special) in range_:
            yield _warn("network.addresses", f"{text} reaches {what}")
            return
    if range_.num_addresses > 1 << 16:
        yield _warn("network.addresses", f"{text}: {range_.num_addresses:,} private addresses")


def _reachable(policy: Policy, host: str) -> bool:
    entries = [split_entry(entry)[0] for entry in policy.network.allow if not entry.startswith("@")]
    named = [rule.when.host for rule in policy.rules if rule.action == "allow" and rule.syscall == SYSCALL]
    presets = len(entries) < len(policy.network.allow)
    return (
        presets
        or policy.network.ask
        or any(
            host_covers(one, host) or host_covers(host, one) for one in [*entries, *named] if one is not None
        )
    )


def _workspace_and_container(policy: Policy) -> Iterator[Finding]:
    workspace, container = policy.workspace, policy.container
    if workspace.mode == "bind":
        yield _warn(
            "workspace.mode", "bind: changes are in your directory at once, without a review or an undo"
        )
    for pattern in workspace.include:
        yield _note("workspace.include", f"{pattern}: taken in although the built-in list would leave it out")
    if container.user == "root" and container.writable_root:
        yield _warn("container.writable_root", "root inside may change every program of the container")
    elif container.user == "root" and container.runtime == "runc":
        yield _note(
            "container.user",
            "root: uid 0 of the kernel that this machine runs; runsc has a kernel of its own",
        )
    if container.seccomp == "debug":
        yield _warn("container.seccomp", "debug: processes inside may read and stop each other")
    if container.capabilities and container.user != "root" and "root" not in policy.sudo.may_ask:
        yield _note("container.capabilities", "only root has them, and nothing runs as root here")
    if container.require_runtime not in (None, container.runtime):
        text = f"{container.require_runtime} is required and runtime is {container.runtime}: nothing starts"
        yield _warn("container.require_runtime", text)


def _secrets(policy: Policy) -> Iterator[Finding]:
    for name in policy.secrets.env:
        text = (
            f"{name}: everything inside can read its value and send it along; secrets.bound keeps it outside"
        )
        yield _warn("secrets.env", text)
    for secret in policy.secrets.bound:
        if not _reachable(policy, secret.host):
            yield _warn(
                "secrets.bound", f"{secret.name}: {secret.host} is not in network.allow, so it is never used"
            )
        if secret.host.startswith("*."):
            yield _warn(
                "secrets.bound", f"{secret.name}: {secret.host} is many hosts, and each may be sent the value"
            )


def _sudo(policy: Policy) -> Iterator[Finding]:
    for pattern in policy.sudo.host_paths:
        parts = pattern.split("/")
        user = (
            parts[2] if len(parts) > 2 and parts[1] == "home" and not set(parts[2]) & set("*?") else "someone"
        )
        homes = [f"/home/{user}", "/root"]
        probes = [*_SYSTEM, *(f"{home}/{name}" for home in homes for name in _KEPT.split())]
        if found := next((probe for probe in probes if path_matches(pattern, probe)), None):
            yield _warn("sudo.host_paths", f"{pattern}: covers credentials such as {found}")
    if not policy.sudo.may_ask and (asking := _asking(policy)):
        yield _warn("sudo.may_ask", f"nobody may be asked anything, though {asking} asks")


def _asking(policy: Policy) -> str:
    if policy.unmatched == "ask":
        return "unmatched"
    rules = [describe_rule(n, rule) for n, rule in enumerate(policy.rules, 1) if rule.action == "ask"]
    return rules[0] if rules else ""


def _rules(policy: Policy, syscalls: Collection[str]) -> Iterator[Finding]:
    for number, rule in enumerate(policy.rules, 1):
        name = describe_rule(number, rule)
        if syscalls and rule.syscall not in ("*", SYSCALL, *syscalls):
            yield _warn("rules", f"{name}: there is no syscall {rule.syscall}, so it never applies")
        elif rule.when.command is not None and rule.syscall not in ("*", "bash"):
            yield _warn("rules", f"{name}: only bash has a command, so it never applies")
        elif rule.when.path is not None and rule.syscall in ("bash", SYSCALL):
            yield _warn("rules", f"{name}: {rule.syscall} has no path, so it never applies")
        elif rule.when.host is not None and rule.syscall == "bash":
            yield _warn("rules", f"{name}: bash has no host, so it never applies; `network` has")
        elif over := _hidden_by(policy, number, rule):
            yield _warn("rules", f"{name}: {over} applies wherever it does, so it changes nothing")
        elif rule.action == "allow" and rule.when.command and runs_others(rule.when.command.split(" ")[0]):
            text = f"{name}: what it runs comes from files or input that the session can change"
            yield _warn("rules", text)


def _hidden_by(policy: Policy, number: int, rule: Rule) -> str:
    """A rule that is as strict and applies at least as widely, as far as its conditions show it."""
    for other_number, other in enumerate(policy.rules, 1):
        same = other.when == rule.when and other.syscall == rule.syscall and other.action == rule.action
        if other_number == number or (same and other_number > number):
            continue
        wider = other.syscall in ("*", rule.syscall) and all(
            value is None or value == getattr(rule.when, name) for name, value in other.when
        )
        # An unconditional `allow *` says nothing about connections; a rule for them stands on its own.
        if (
            SYSCALL in (rule.syscall, other.syscall)
            and rule.syscall != other.syscall
            and other.action == "allow"
        ):
            continue
        if wider and _RANK[other.action] >= _RANK[rule.action]:
            return describe_rule(other_number, other)
    return ""
