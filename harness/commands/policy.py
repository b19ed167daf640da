"""`usermode policy`: what the profiles and policy files say, and what they would make of a call."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path

from harness.commands.say import say, table
from harness.errors import UsageError
from harness.journal.reading import read
from harness.recovery.redecide import redecide
from harness.store import Store, home
from harness.syscalls.table import TABLE
from harness.words import counted
from policies import load
from policies.decide import Request, applies_to_example
from policies.describe import describe
from policies.explain import Explanation, explain, explain_connection
from policies.index import describe_rule
from policies.lint import lint as findings_of
from policies.load import check as mistakes_of
from policies.load import profiles, read_examples
from policies.patterns import split_entry
from policies.schema import Rule

USAGE = 2
DIFFERS = 1


def list_profiles() -> int:
    table((name, load(name).description) for name in profiles())
    return 0


def show(name: str) -> int:
    for line in describe(load(name)).splitlines():
        say(line)
    return 0


def check(file: Path) -> int:
    """Every mistake on a line of its own, as `FILE:LINE: key: reason`."""
    mistakes = mistakes_of(file)
    for mistake in mistakes:
        say(str(mistake), error=True)
    if not mistakes:
        say(f"{file}: a policy without mistakes")
    return USAGE if mistakes else 0


def why(name: str, call: list[str], path: str | None, host: str | None) -> int:
    """Explain what the policy makes of one call, of a path, or of a connection."""
    policy = load(name)
    if sum((bool(call), path is not None, host is not None)) != 1:
        raise UsageError("give one thing to explain: -- SYSCALL TEXT, --path PATH, or --host HOST:PORT")
    if host is not None:
        _explained(explain_connection(policy, *_host(host)))
    elif path is not None:
        for number, syscall in enumerate(("read", "write")):
            if number:
                say()
            _explained(explain(policy, Request(syscall, path=path)))
    else:
        _explained(explain(policy, _request(call)))
    return 0


def test(file: Path) -> int:
    """Run the examples of a file's rules and say what came of each."""
    policy = read_examples(file)
    failed = 0
    rows: list[tuple[str, str, str]] = []
    for number, rule in enumerate(policy.rules, 1):
        for kind, examples in (("match", rule.match), ("not_match", rule.not_match)):
            for example in examples:
                came = _came(rule, example, wanted=kind == "match")
                failed += came != "ok"
                rows.append((came, kind, f"{describe_rule(number, rule)}: {example}"))
    table(rows)
    say(f"{counted(len(rows), 'example')} of {counted(len(policy.rules), 'rule')}, {failed} failed")
    return DIFFERS if failed else 0


def lint(name: str, *, strict: bool) -> int:
    findings = findings_of(load(name), tuple(TABLE))
    table((finding.level, finding.key, finding.text) for finding in findings)
    warnings = sum(finding.level == "warning" for finding in findings)
    say(f"{counted(warnings, 'warning')}, {counted(len(findings) - warnings, 'note')}")
    return DIFFERS if strict and warnings else 0


def replay(session: str, name: str, *, json: bool) -> int:
    """Decide a recorded session again; say what would be decided otherwise."""
    policy = load(name)
    total = differing = 0
    for one in redecide(read(Store(home()).session(session)), policy):
        total += 1
        if not one.differs:
            continue
        differing += 1
        if json:
            now = {"decision": one.now.action, "rule": one.now.rule, "reason": one.now.reason}
            print(jsonlib.dumps({"v": 1, "seq": one.seq, "what": one.what, "was": one.was, "now": now}))
        else:
            say(f"{one.seq}  {one.what}")
            say(f"    was {one.was}, {one.was_by}")
            say(f"    now {one.now.action}, {one.now.rule}: {one.now.reason}")
    if not json:
        say(f"{differing} of {total} decisions would differ under policy {policy.name}")
        if presets := [entry for entry in policy.network.allow if entry.startswith("@")]:
            say(f"{', '.join(presets)}: known only when a session starts, so not counted as listed here")
    return DIFFERS if differing else 0


def _came(rule: Rule, example: str, *, wanted: bool) -> str:
    applies = applies_to_example(rule, example)
    if isinstance(applies, str):
        return applies
    return "ok" if applies == wanted else "FAILED"


def _request(call: list[str]) -> Request:
    syscall, *rest = call
    if syscall not in TABLE:
        raise UsageError(f"{syscall} is no syscall; there are {', '.join(TABLE)}")
    if len(rest) > 1:
        raise UsageError(
            f"quote what {syscall} is given, so that it is one word: {syscall} '{' '.join(rest)}'"
        )
    text = rest[0] if rest else None
    return Request(syscall, command=text) if syscall == "bash" else Request(syscall, path=text)


def _host(text: str) -> tuple[str, int]:
    try:
        host, port = split_entry(text)
    except ValueError as exc:
        raise UsageError(f"--host {text}: {exc}") from exc
    return host, port or 443


def _explained(explanation: Explanation) -> None:
    for line in explanation.reading:
        say(line)
    for one in explanation.rules:
        say(f"  {'applies' if one.applies else '      –'}  {one.rule}: {one.why}")
        say(f"           {one.reason}")
    decision = explanation.decision
    say(f"{decision.action}: {decision.rule}: {decision.reason}")
