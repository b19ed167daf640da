"""Decide a request over a policy's rules: deny beats ask beats allow, in whatever order and layer they stand.

Pure and fail-closed: a path, host or command line that has no clear reading never meets an allow rule,
and always meets a deny or ask rule that might mean it. A rule is the user's consent; containment is the
sandbox's job.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from policies.commands import covers, may_mean, programs
from policies.index import Entry, Rules, index_of
from policies.patterns import canonical_host, host_matches, normal_path, path_matches
from policies.schema import Action, Policy, Rule
from policies.shell import Parsed, parse


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


class Facts(NamedTuple):
    """A request, read once: canonical values, None where there is none or no clear one."""

    request: Request
    path: str | None
    host: str | None
    parsed: Parsed | None


def read(request: Request) -> Facts:
    path, host, command = request.path, request.host, request.command
    return Facts(
        request,
        normal_path(path) if path is not None else None,
        canonical_host(host) if host is not None else None,
        parse(command) if command is not None else None,
    )


def decide(policy: Policy, request: Request) -> Decision:
    """The strictest rule that applies. Without one the call is denied, or asked about if the policy says."""
    facts, index = read(request), index_of(policy)
    ask = tightening = None
    for entry in index.refusing.about(programs(facts.parsed) if facts.parsed is not None else ()):
        if not may_apply(entry, facts):
            continue
        if entry.rule.action == "deny":
            return _decided(entry)
        if entry.rule.tightens:
            tightening = tightening or entry
        else:
            ask = ask or entry
    if ask is not None:
        return _decided(ask)
    allowed = _allowed(index.allowing, facts)
    if allowed is None:
        return _unmatched(policy, facts)
    return _decided(tightening) if tightening is not None else allowed


def _decided(entry: Entry) -> Decision:
    return Decision(entry.rule.action, entry.name, entry.rule.reason)


def applies_to_example(rule: Rule, example: str) -> bool | str:
    """Whether a rule applies to one of its examples; a `str` says why the example cannot be tried."""
    when = rule.when
    given = [name for name in ("command", "path", "host") if getattr(when, name) is not None]
    if len(given) != 1:
        return "examples need a rule with exactly one of when.command, when.path and when.host"
    kind: Literal["command", "path", "host"] = given[0]  # type: ignore[assignment]
    entry, facts = Entry.of(0, rule), read(Request(syscall=rule.syscall, **{kind: example}))
    return surely_applies(entry, facts) if rule.action == "allow" else may_apply(entry, facts)


def _allowed(rules: Rules, facts: Facts) -> Decision | None:
    """One allow rule for all of it; or, for a line of several commands, a rule for each of them."""
    commands = (facts.parsed.commands if facts.parsed is not None else None) or ()
    begins = {words[0] for words in commands}
    # A rule that names a program covers no other.
    for entry in rules.about(begins if len(begins) == 1 else ()):
        if surely_applies(entry, facts):
            return _decided(entry)
    if not commands:
        return None
    used: dict[int, Entry] = {}
    for words in commands:
        for entry in rules.of_program.get(words[0], ()):
            if covers(entry.command or "", words) and surely_applies(entry, facts, command=False):
                used[entry.number] = entry
                break
        else:
            return None
    names = " and ".join([entry.name for entry in used.values()])
    reasons = dict.fromkeys([entry.rule.reason for entry in used.values()])
    return Decision("allow", names, " ".join(reasons))


def _unmatched(policy: Policy, facts: Facts) -> Decision:
    request = facts.request
    what = " ".join(part for part in (request.syscall, request.path, request.host) if part is not None)
    reason = f"No rule of policy {policy.name} allows {what}."
    if facts.parsed is not None and facts.parsed.commands is None:
        reason += f" Only a plain command line can meet an allow rule: {facts.parsed.why}."
    return Decision(policy.unmatched, "default", reason)


def surely_applies(rule: Entry, facts: Facts, *, command: bool = True) -> bool:
    """For allow: every condition holds of a value with one clear reading."""
    if rule.syscall != facts.request.syscall and rule.syscall != "*":
        return False
    if rule.path is not None and (facts.path is None or not path_matches(rule.path, facts.path)):
        return False
    if rule.host is not None and (facts.host is None or not host_matches(rule.host, facts.host)):
        return False
    words = rule.command
    if words is None or not command:
        return True
    commands = facts.parsed.commands if facts.parsed is not None else None
    return commands is not None and all(covers(words, one) for one in commands)


def may_apply(rule: Entry, facts: Facts) -> bool:
    """For deny and ask: no condition can be ruled out; one on a value the request does not have can."""
    if rule.syscall != facts.request.syscall and rule.syscall != "*":
        return False
    if rule.path is not None:
        if facts.request.path is None:
            return False
        if facts.path is not None and not path_matches(rule.path, facts.path):
            return False
    if rule.host is not None:
        if facts.request.host is None:
            return False
        if facts.host is not None and not host_matches(rule.host, facts.host):
            return False
    words = rule.command
    return words is None or (facts.parsed is not None and may_mean(words, facts.parsed))
