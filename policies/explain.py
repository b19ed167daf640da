"""Why a request is decided as it is: how it was read, what each rule makes of it, and which one decides."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from policies.commands import objection
from policies.decide import Decision, Facts, Request, decide, may_apply, read, surely_applies
from policies.egress import SYSCALL, decide_connection
from policies.index import Entry, index_of
from policies.patterns import canonical_host, host_matches, split_entry
from policies.schema import Policy
from policies.shell import Parsed


@dataclass(frozen=True)
class RuleReading:
    rule: str
    """As in a decision: number, action, conditions."""
    reason: str
    applies: bool
    why: str
    """Why it does not, or how far it does."""


@dataclass(frozen=True)
class Explanation:
    """Text in it is the request's and may be anybody's: not safe to print as it is."""

    reading: tuple[str, ...]
    """How the request was understood, a line each."""
    rules: tuple[RuleReading, ...]
    """In the order of the policy; those for other syscalls are left out."""
    decision: Decision


def explain(policy: Policy, request: Request) -> Explanation:
    """The same decision as `decide`, with its grounds."""
    facts = read(request)
    rules = [
        RuleReading(entry.name, entry.rule.reason, *_applies(entry, facts))
        for entry in index_of(policy).entries
        if entry.syscall in ("*", request.syscall)
    ]
    return Explanation(tuple(_reading(facts)), tuple(rules), decide(policy, request))


def explain_connection(policy: Policy, host: str, port: int) -> Explanation:
    """As `explain`, of a connection out of the sandbox."""
    name = canonical_host(host)
    reading = [
        f"host {name}, port {port}" if name else "host without a clear reading: refused by every policy"
    ]
    rules = []
    for listed in policy.network.allow if name else ():
        rules.append(
            RuleReading(f"network.allow {listed}", "Listed.", *_lists(listed, name or "", port, policy))
        )
    facts = read(Request(SYSCALL, host=host))
    for entry in index_of(policy).entries:
        if entry.syscall == SYSCALL or (entry.syscall == "*" and entry.rule.action != "allow"):
            rules.append(RuleReading(entry.name, entry.rule.reason, *_applies(entry, facts)))
    return Explanation(tuple(reading), tuple(rules), decide_connection(policy, host, port))


def _reading(facts: Facts) -> Iterator[str]:
    request = facts.request
    yield f"syscall {request.syscall}"
    if request.path is not None:
        yield (
            f"path {facts.path}"
            if facts.path
            else "path without a clear reading: no rule on paths allows it, every other may apply"
        )
    if request.host is not None:
        yield (
            f"host {facts.host}"
            if facts.host
            else "host without a clear reading: no rule on hosts allows it, every other may apply"
        )
    if facts.parsed is not None:
        yield from _commands(facts.parsed)


def _commands(parsed: Parsed) -> Iterator[str]:
    if parsed.commands is None:
        yield f"command line unparsed, {parsed.why}: no allow rule with command words applies to it"
        return
    for number, words in enumerate(parsed.commands, 1):
        yield f"command {number}: {shlex.join(words)}"


def _applies(entry: Entry, facts: Facts) -> tuple[bool, str]:
    if entry.rule.action != "allow":
        applies = may_apply(entry, facts)
        return applies, _how(entry, facts) if applies else _misses(entry, facts)
    if surely_applies(entry, facts):
        return True, _how(entry, facts)
    if entry.command is None or not surely_applies(entry, facts, command=False):
        return False, _misses(entry, facts)
    if facts.parsed is None or facts.parsed.commands is None:
        return False, "the command line is unparsed"
    objections = [objection(entry.command, words) for words in facts.parsed.commands]
    covered = objections.count("")
    why = ", ".join(f"not command {number}: {text}" for number, text in enumerate(objections, 1) if text)
    # A part of a line is enough when other rules cover the rest.
    return covered > 0, f"covers {covered} of {len(objections)} commands, {why}"


def _how(entry: Entry, facts: Facts) -> str:
    if not any(value is not None for _, value in entry.rule.when):
        return "it has no condition"
    unclear = entry.command is not None and facts.parsed is not None and facts.parsed.commands is None
    return "the unparsed line has its words in this order" if unclear else "its conditions hold"


def _misses(entry: Entry, facts: Facts) -> str:
    request = facts.request
    for name, wanted in entry.rule.when:
        if wanted is not None and getattr(request, name) is None:
            return f"the call has no {name}"
    return "its conditions do not hold"


def _lists(entry: str, host: str, port: int, policy: Policy) -> tuple[bool, str]:
    if entry.startswith("@"):
        return False, "stands for the hosts that the tool is configured for, known when a session starts"
    pattern, its_port = split_entry(entry)
    if not host_matches(pattern, host):
        return False, "another host"
    if its_port is not None:
        return its_port == port, f"means port {its_port}"
    ports = ", ".join(map(str, policy.network.ports))
    return port in policy.network.ports, f"means the ports of network.ports: {ports}"
