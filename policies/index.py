"""A policy's rules by the program that they are about: most speak of programs that a line does not run.

An index is made once a policy, with the names of its rules for people, and looked at for every request.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from policies.commands import begins_with, program_of
from policies.patterns import split_entry
from policies.schema import Policy, Rule

MOST_KNOWN = 16
"""Policies whose index is kept."""


class Entry(NamedTuple):
    """A rule as decisions look at it. In the policy's order, since no two numbers are the same."""

    number: int
    name: str
    """For people: its number, what it does, and when."""
    rule: Rule
    syscall: str
    command: str | None
    path: str | None
    host: str | None

    @classmethod
    def of(cls, number: int, rule: Rule) -> Entry:
        # Attributes of a tuple are read several times as fast as those of a model.
        name, when = describe_rule(number, rule), rule.when
        return cls(number, name, rule, rule.syscall, when.command, when.path, when.host)


class Rules:
    """Those that allow, or all others: about one program each, or about any."""

    def __init__(self, entries: Iterable[Entry], program_of: Callable[[str], str]) -> None:
        self.all = list(entries)
        self.general: list[Entry] = []
        self.of_program: dict[str, list[Entry]] = {}
        for entry in self.all:
            if entry.command is None:
                self.general.append(entry)
            else:
                self.of_program.setdefault(program_of(entry.command), []).append(entry)

    def about(self, programs: Collection[str] | None) -> list[Entry]:
        """Those that speak of one of these programs or of none; with None, all. In the policy's order."""
        if programs is None:
            return self.all
        found = [self.of_program[one] for one in programs if one in self.of_program]
        return sorted(sum(found, self.general)) if found else self.general


class Index:
    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.entries = [Entry.of(number, rule) for number, rule in enumerate(policy.rules, 1)]
        self.refusing = Rules((one for one in self.entries if one.rule.action != "allow"), program_of)
        """By the program without its path."""
        self.allowing = Rules((one for one in self.entries if one.rule.action == "allow"), begins_with)
        """By the first word of what they cover."""
        self.hosts = [
            (listed, *split_entry(listed)) for listed in policy.network.allow if not listed.startswith("@")
        ]
        """Of `network.allow`: the entry, its host, its port. Presets are replaced before a session starts."""


def describe_rule(number: int, rule: Rule) -> str:
    """A rule's name for people: its number in the policy, what it does, and when."""
    when = rule.when
    given = (("command", when.command), ("path", when.path), ("host", when.host))
    conditions = "".join(f", {name} {value}" for name, value in given if value is not None)
    return f"rule {number} ({rule.action} {rule.syscall}{conditions})"


_KNOWN: dict[int, Index] = {}
"""By `id`, of which the policy that it holds makes sure: a session decides by the same one all along."""


def index_of(policy: Policy) -> Index:
    known = _KNOWN.get(id(policy))
    if known is None or known.policy is not policy:
        if len(_KNOWN) >= MOST_KNOWN:
            _KNOWN.clear()
        known = _KNOWN[id(policy)] = Index(policy)
    return known
