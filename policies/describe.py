"""A policy as plain text for people: every field with its value, every rule with its reason."""

from __future__ import annotations

from pydantic import BaseModel

from policies.index import describe_rule
from policies.schema import Policy, Rule


def describe(policy: Policy) -> str:
    """Lines of text, without a final newline; what is unset or empty is said, not left out."""
    lines = [f"policy {policy.name}" + (f": {policy.description}" if policy.description else "")]
    for name, table in policy:
        if isinstance(table, BaseModel):
            lines += ["", name]
            width = max(len(field) for field, _ in table)
            unset = "no limit" if name == "limits" else "none"
            lines += [f"  {field:<{width}}  {_value(value, unset)}" for field, value in table]
    lines += ["", "rules (deny beats ask beats allow, whatever the order)"]
    lines += [line for number, rule in enumerate(policy.rules, 1) for line in _rule(number, rule)]
    lines.append(f"  otherwise: {policy.unmatched}")
    return "\n".join(lines)


def _rule(number: int, rule: Rule) -> list[str]:
    return [f"  {describe_rule(number, rule)}", f"    {rule.reason}"]


def _value(value: object, unset: str = "none") -> str:
    if value is None:
        return unset
    if isinstance(value, BaseModel):
        return ", ".join(f"{name} {_value(one)}" for name, one in value if one is not None) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(str(item) for item in value) if value else "none"
    if isinstance(value, float):
        return f"{value:.12g}"
    return str(value)
