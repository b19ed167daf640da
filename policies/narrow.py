"""Narrowing: the policy of a child session, which may do what its parent may, or less.

Everything here only takes away: what would give more than the parent has is an error, never a wider child.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from policies.patterns import check_host_entry, entry_covers
from policies.schema import Limits, Policy, Rule, SudoKind
from policies.tighten import tighten

MAY_ASK: frozenset[SudoKind] = frozenset({"network", "root", "host_path"})
"""What a child may ask the user for; its limits and its secrets are what it was given."""
FIXED = frozenset({"children", "spawn_depth", "checkpoints", "checkpoint_mb", "orphan_s"})
"""Limits that a child is not told apart by."""


@dataclass(frozen=True)
class Narrowing:
    profile: Policy | None = None
    """Of each setting the tighter one, its or the parent's."""
    network: Sequence[str] | None = None
    """All that it may reach, entries as in `network.allow`; None for what the parent may."""
    read_only: bool = False
    limits: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    """Lower than the parent's."""
    children: int = 0
    """Sessions it may start in turn."""


def narrow(parent: Policy, to: Narrowing) -> Policy:
    """The child's policy. ValueError for what the parent does not have to give."""
    policy = parent if to.profile is None else tighten(parent, to.profile).policy
    if to.network is not None:
        policy = _reaching(policy, to.network)
    if to.read_only:
        policy = policy.model_copy(update={"rules": (*policy.rules, *_NO_WRITING)})
    may_ask = tuple(kind for kind in policy.sudo.may_ask if kind in MAY_ASK)
    update: dict[str, Any] = {
        "limits": _limits(parent.limits, policy.limits, to),
        "sudo": policy.sudo.model_copy(update={"may_ask": may_ask}),
    }
    return policy.model_copy(update=update)


_NO_WRITING = tuple(
    Rule(syscall=name, action="deny", reason="This session was started to look, not to write.")
    for name in ("write", "edit", "merge")
)


def _reaching(policy: Policy, hosts: Sequence[str]) -> Policy:
    """No way out but to these hosts, and no question about another."""
    entries = tuple(check_host_entry(host) for host in hosts)
    for entry in entries:
        if not any(entry_covers(ours, entry) for ours in policy.network.allow):
            raise ValueError(f"network: {entry} is not in this session's own network.allow")
    network = policy.network.model_copy(update={"allow": entries, "ask": False})
    may_ask = tuple(kind for kind in policy.sudo.may_ask if kind != "network")
    rules = tuple(
        # A question about a host beside the list would open it, too.
        rule.model_copy(update={"tightens": True}) if rule.action == "ask" else rule
        for rule in policy.rules
        # A rule that opens hosts beside the list would open them still.
        if (rule.syscall, rule.action) != ("network", "allow")
    )
    sudo = policy.sudo.model_copy(update={"may_ask": may_ask})
    return policy.model_copy(update={"network": network, "sudo": sudo, "rules": rules})


def _limits(parent: Limits, present: Limits, to: Narrowing) -> Limits:
    if parent.spawn_depth < 1:
        raise ValueError("limits.spawn_depth is 0: this session starts no others")
    if to.children >= parent.children:
        raise ValueError(f"children: this session may start {parent.children} itself, so it can give fewer")
    chosen: dict[str, Any] = {}
    for name, value in to.limits.items():
        if name not in Limits.model_fields or name in FIXED:
            raise ValueError(f"limits: {name[:50]!r} is none that can be lowered for a child")
        ours, now = getattr(parent, name), getattr(present, name)
        if ours is not None and value > ours:
            raise ValueError(f"limits: {name} is {ours:g} here, so a child cannot have {value:g}")
        chosen[name] = value if now is None else min(value, now)
    chosen |= {"children": to.children, "spawn_depth": parent.spawn_depth - 1}
    try:
        return Limits.model_validate({**present.model_dump(), **chosen})
    except ValidationError as exc:
        first = exc.errors()[0]
        raise ValueError(f"limits: {first['loc'][0]}: {first['msg']}") from None
