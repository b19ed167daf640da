"""Decide a request over a policy's rules: deny beats ask beats allow, in whatever order and layer they stand.

Pure and fail-closed: a path, host or command line that has no clear reading never meets an allow rule,
and always meets a deny or ask rule that might mean it. A rule is the user's consent; containment is the
sandbox's job.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from policies.commands import begins_with, covers, may_mean, program_of, programs
from policies.patterns import canonical_host, host_matches, normal_path, path_matches
from policies.schema import Action, Policy, Rule
from policies.shell import Parsed, parse

MOST_KNOWN = 16
"""Policies whose rules are kept told apart."""


@dataclass(frozen=True)
class Request:
    """One effect that is asked for, as far as rules can look at it."""

    syscall: str
    command: str | None = None
    """The whole command line, for `bash`."""
    path: str | None = None
    """Absolute, inside the container."""
    host: str | None = None


@dataclass(frozen=True)
class Decision:
    action: Action
    rule: str
    """Which rule decided, e.g. `rule 3 (deny bash, command git push)`, or `default`."""
    reason: str


@dataclass(frozen=True)
class Facts:
    """A request, read once: canonical values, None where there is none or no clear one."""

    request: Request
    path: str | None = field(init=False)
    host: str | None = field(init=False)
    parsed: Parsed | None = field(init=False)
    programs: frozenset[str] | None = field(init=False)
    """All that a command line runs; None when that cannot be told."""

    def __post_init__(self) -> None:
        request = self.request
        object.__setattr__(self, "path", normal_path(request.path) if request.path is not None else None)
        object.__setattr__(self, "host", canonical_host(request.host) if request.host is not None else None)
        parsed = parse(request.command) if request.command is not None else None
        object.__setattr__(self, "parsed", parsed)
        object.__setattr__(self, "programs", programs(parsed) if parsed is not None else frozenset())


def decide(policy: Policy, request: Request) -> Decision:
    """The strictest rule that applies. Without one the call is denied, or asked about if the policy says."""
    facts = Facts(request)
    ask = tightening = None
    for number, rule, program in _told_apart(policy).refusing:
        if facts.programs is not None and program is not None and program not in facts.programs:
            continue  # Most rules are about other programs.
        if not may_apply(rule, facts):
            continue
        found = Decision(rule.action, describe_rule(number, rule), rule.reason)
        if rule.action == "deny":
            return found
        if rule.tightens:
            tightening = tightening or found
        else:
            ask = ask or found
    if ask is not None:
        return ask
    allowed = _allowed(policy, facts)
    if allowed is None:
        return _unmatched(policy, facts)
    return tightening or allowed


def applies_to_example(rule: Rule, example: str) -> bool | str:
    """Whether a rule applies to one of its examples; a `str` says why the example cannot be tried."""
    when = rule.when
    given = [name for name in ("command", "path", "host") if getattr(when, name) is not None]
    if len(given) != 1:
        return "examples need a rule with exactly one of when.command, when.path and when.host"
    kind: Literal["command", "path", "host"] = given[0]  # type: ignore[assignment]
    facts = Facts(Request(syscall=rule.syscall, **{kind: example}))
    return surely_applies(rule, facts) if rule.action == "allow" else may_apply(rule, facts)


def describe_rule(number: int, rule: Rule) -> str:
    """A rule's name for people: its number in the policy, what it does, and when."""
    when = rule.when
    given = (("command", when.command), ("path", when.path), ("host", when.host))
    conditions = "".join(f", {name} {value}" for name, value in given if value is not None)
    return f"rule {number} ({rule.action} {rule.syscall}{conditions})"


class _ToldApart(NamedTuple):
    """A policy's rules with their numbers, and the program that each is about; None where it names none."""

    refusing: tuple[tuple[int, Rule, str | None], ...]
    """Those that deny or ask. The program is without its path."""
    allowing: tuple[tuple[int, Rule, str | None], ...]
    """The program is the first word of what they cover."""


_KNOWN: dict[int, tuple[Policy, _ToldApart]] = {}
"""By `id`, of which the policy beside it makes sure: a session decides by the same one all along."""


def _told_apart(policy: Policy) -> _ToldApart:
    known = _KNOWN.get(id(policy))
    if known is None or known[0] is not policy:
        rules = [(number, rule, rule.when.command) for number, rule in enumerate(policy.rules, 1)]
        refusing = (
            (n, rule, words and program_of(words)) for n, rule, words in rules if rule.action != "allow"
        )
        allowing = (
            (n, rule, words and begins_with(words)) for n, rule, words in rules if rule.action == "allow"
        )
        if len(_KNOWN) >= MOST_KNOWN:
            _KNOWN.clear()
        known = _KNOWN[id(policy)] = policy, _ToldApart(tuple(refusing), tuple(allowing))
    return known[1]


def _allowed(policy: Policy, facts: Facts) -> Decision | None:
    """One allow rule for all of it; or, for a line of several commands, a rule for each of them."""
    commands = (facts.parsed.commands if facts.parsed is not None else None) or ()
    begins = {words[0] for words in commands}
    by_program: dict[str, list[tuple[int, Rule, str]]] = {program: [] for program in begins}
    for number, rule, begun in _told_apart(policy).allowing:
        command = rule.when.command
        if command is not None and begun is not None:
            if begun not in begins:
                continue
            by_program[begun].append((number, rule, command))
            if len(begins) > 1:
                continue  # A rule that names a program covers no other.
        if surely_applies(rule, facts):
            return Decision("allow", describe_rule(number, rule), rule.reason)
    if not commands:
        return None
    used: dict[int, Rule] = {}
    for words in commands:
        for number, rule, command in by_program[words[0]]:
            if covers(command, words) and surely_applies(rule, facts, command=False):
                used.setdefault(number, rule)
                break
        else:
            return None
    names = " and ".join(describe_rule(number, rule) for number, rule in used.items())
    return Decision("allow", names, " ".join(dict.fromkeys(rule.reason for rule in used.values())))


def _unmatched(policy: Policy, facts: Facts) -> Decision:
    request = facts.request
    what = " ".join(part for part in (request.syscall, request.path, request.host) if part is not None)
    reason = f"No rule of policy {policy.name} allows {what}."
    if facts.parsed is not None and facts.parsed.commands is None:
        reason += f" Only a plain command line can meet an allow rule: {facts.parsed.why}."
    return Decision(policy.unmatched, "default", reason)


def surely_applies(rule: Rule, facts: Facts, *, command: bool = True) -> bool:
    """For allow: every condition holds of a value with one clear reading."""
    if rule.syscall not in ("*", facts.request.syscall):
        return False
    when = rule.when
    if when.path is not None and (facts.path is None or not path_matches(when.path, facts.path)):
        return False
    if when.host is not None and (facts.host is None or not host_matches(when.host, facts.host)):
        return False
    words = when.command
    if words is None or not command:
        return True
    commands = facts.parsed.commands if facts.parsed is not None else None
    return commands is not None and all(covers(words, one) for one in commands)


def may_apply(rule: Rule, facts: Facts) -> bool:
    """For deny and ask: no condition can be ruled out; one on a value the request does not have can."""
    if rule.syscall not in ("*", facts.request.syscall):
        return False
    when = rule.when
    words = when.command
    if when.path is not None:
        if facts.request.path is None:
            return False
        if facts.path is not None and not path_matches(when.path, facts.path):
            return False
    if when.host is not None:
        if facts.request.host is None:
            return False
        if facts.host is not None and not host_matches(when.host, facts.host):
            return False
    return words is None or (facts.parsed is not None and may_mean(words, facts.parsed))
