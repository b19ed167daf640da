"""A project's own policy file: it comes with the code, so it may only make the user's policy tighter.

What would loosen anything is ignored and listed, so that the user hears of it; it never stops a session,
since a project's file may be written for another policy than the one in force.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from policies.errors import printable
from policies.patterns import entry_covers
from policies.schema import Ceilings, Policy

_SAFEST_FIRST: Mapping[str, tuple[object, ...]] = {
    "network.ask": (False, True),
    "workspace.mode": ("copy", "overlay", "bind"),
    "container.require_runtime": ("runsc", "runc", None),
    "container.runtime": ("runsc", "runc"),
    "container.seccomp": ("strict", "default", "debug"),
    "container.user": ("sandbox", "root"),
    "container.writable_root": (False, True),
    "unmatched": ("deny", "ask"),
}


@dataclass(frozen=True)
class Tightened:
    policy: Policy
    ignored: tuple[str, ...]
    """What the project asked for and did not get, one readable line each."""


def tighten(base: Policy, project: Policy) -> Tightened:
    """`base` with whatever of `project` is tighter; only fields that the project's file sets count."""
    ignored: list[str] = []
    update: dict[str, Any] = {}
    for table in ("limits", "network", "workspace", "container", "secrets", "sudo"):
        if table in project.model_fields_set:
            ours, theirs = getattr(base, table), getattr(project, table)
            fields = {
                field: _tighter(f"{table}.{field}", getattr(ours, field), getattr(theirs, field), ignored)
                for field in sorted(theirs.model_fields_set)
            }
            update[table] = ours.model_copy(update=fields)
    if "unmatched" in project.model_fields_set:
        update["unmatched"] = _tighter("unmatched", base.unmatched, project.unmatched, ignored)
    rules = []
    for number, rule in enumerate(project.rules, 1):
        if rule.action == "allow":
            ignored.append(f"rules[{number}]: a project's rule cannot allow ({rule.reason})")
        else:
            # A question is looser than the refusal of what nothing speaks about.
            rules.append(rule.model_copy(update={"tightens": rule.action == "ask"}))
    return Tightened(base.model_copy(update={**update, "rules": base.rules + tuple(rules)}), tuple(ignored))


def _tighter(key: str, ours: Any, theirs: Any, ignored: list[str]) -> Any:
    """The tighter of two values of a field, noting what of `theirs` was not taken."""

    def refuse(what: object) -> None:
        ignored.append(f"{key}: {printable(str(what))} is looser than the policy in force")

    if key in _SAFEST_FIRST:
        order = _SAFEST_FIRST[key]
        if order.index(theirs) > order.index(ours):
            refuse(theirs)
            return ours
        return theirs
    if isinstance(ours, Ceilings):
        fields = {
            field: _tighter(f"{key}.{field}", getattr(ours, field), getattr(theirs, field), ignored)
            for field in sorted(theirs.model_fields_set)
        }
        return ours.model_copy(update=fields)
    if key.startswith(("limits.", "sudo.limits.")) or key == "sudo.timeout_s":
        if theirs is None or (ours is not None and theirs > ours):
            if theirs != ours:
                refuse("no limit" if theirs is None else theirs)
            return ours
        return theirs
    if key == "workspace.exclude":
        return _joined(ours, theirs)
    if key == "network.allow":
        # The intersection of two sets of hosts: each side's patterns that the other side covers.
        kept = _keep(theirs, lambda host: any(entry_covers(mine, host) for mine in ours))
        narrowed = _keep(ours, lambda host: any(entry_covers(other, host) for other in theirs))
        for host in theirs:
            if host not in kept and not any(entry_covers(host, mine) for mine in ours):
                refuse(host)
        return _joined(kept, narrowed)
    if isinstance(ours, tuple):
        for item in theirs:
            if item not in ours:
                refuse(item)
        return _keep(ours, lambda item: item in theirs)
    if theirs != ours:
        ignored.append(f"{key}: only the user chooses it, {printable(str(theirs))} is ignored")
    return ours


def _keep(items: Iterable[str], wanted: Callable[[str], bool]) -> tuple[str, ...]:
    return tuple(item for item in items if wanted(item))


def _joined(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(first + second))
