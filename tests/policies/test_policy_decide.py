"""Deny beats ask beats allow; what has no clear reading is never allowed by a rule, and never escapes a
refusal.
"""

import itertools

import pytest

from policies import Policy, load
from policies.decide import Decision, Request, decide
from policies.schema import Rule, When


def rule(action: str, syscall: str = "*", **when: str) -> Rule:
    return Rule(syscall=syscall, action=action, reason=f"{action} because.", when=When(**when))


def policy(*rules: Rule, unmatched: str = "deny") -> Policy:
    return Policy(name="test", rules=rules, unmatched=unmatched)


def bash(command: str) -> Request:
    return Request("bash", command=command)


@pytest.mark.parametrize("order", list(itertools.permutations(["allow", "ask", "deny"])))
def test_deny_beats_ask_beats_allow_in_any_order(order):
    rules = [rule(action) for action in order]
    assert decide(policy(*rules), bash("ls")).action == "deny"
    assert decide(policy(*(r for r in rules if r.action != "deny")), bash("ls")).action == "ask"


def test_without_a_rule_a_call_is_denied_or_asked_about_as_the_policy_says():
    assert decide(policy(), Request("read", path="/a")) == Decision(
        "deny", "default", "No rule of policy test allows read /a."
    )
    assert decide(policy(unmatched="ask"), Request("read", path="/a")).action == "ask"


def test_a_decision_names_its_rule_and_reason():
    decision = decide(
        policy(rule("allow"), rule("deny", "bash", command="git push")), bash("git push origin")
    )
    assert decision == Decision("deny", "rule 2 (deny bash, command git push)", "deny because.")


@pytest.mark.parametrize("profile", ["strict", "dev", "eval", "offline"])
def test_inside_the_container_nothing_is_refused_by_a_built_in_profile(profile):
    for request in (bash("rm -rf / & $(x)"), Request("write", path="/etc/passwd"), Request("plan")):
        assert decide(load(profile), request).action == "allow"


def test_a_rule_for_one_syscall_says_nothing_about_another():
    assert decide(policy(rule("allow", "read")), Request("write", path="/a")).action == "deny"


def test_all_conditions_of_a_rule_must_hold():
    both = policy(rule("allow", path="/a/**", host="a.test"))
    assert decide(both, Request("fetch", path="/a/b", host="a.test")).action == "allow"
    assert decide(both, Request("fetch", path="/a/b", host="b.test")).action == "deny"
    assert decide(both, Request("fetch", path="/b", host="a.test")).action == "deny"
    assert decide(both, Request("fetch", path="/a/b")).action == "deny"


@pytest.mark.parametrize(
    "path", ["/secret/../secret/x", "//secret/x", "/secret/", "/a/../secret", "/secret/./x"]
)
def test_spellings_of_a_path_are_one_path(path):
    rules = policy(rule("allow"), rule("deny", path="/secret/**"))
    assert decide(rules, Request("read", path=path)).action == "deny"
    assert decide(policy(rule("allow", path="/secret/**")), Request("read", path=path)).action == "allow"


def test_dots_do_not_lead_out_of_an_allowed_path():
    assert (
        decide(
            policy(rule("allow", path="/workspace/**")), Request("write", path="/workspace/../etc/x")
        ).action
        == "deny"
    )


@pytest.mark.parametrize("request_", [
    Request("read", path="secret"), Request("read", path="/a\0/secret"), Request("read", path=""),
])  # fmt: skip
def test_an_unclear_path_meets_every_refusal_and_no_consent(request_):
    assert decide(policy(rule("allow", path="/**")), request_).action == "deny"
    assert decide(policy(rule("allow"), rule("ask", path="/secret")), request_).action == "ask"


@pytest.mark.parametrize(
    "host", ["allowed.test\0.evil.test", "2130706433", "bücher.test", "", "allowed.test:443"]
)
def test_an_unclear_host_meets_every_refusal_and_no_consent(host):
    assert decide(policy(rule("allow", host="allowed.test")), Request("connect", host=host)).action == "deny"
    assert (
        decide(policy(rule("allow"), rule("ask", host="b.test")), Request("connect", host=host)).action
        == "ask"
    )


def test_spellings_of_a_host_are_one_host():
    assert (
        decide(policy(rule("allow", host="allowed.test")), Request("connect", host="ALLOWED.test.")).action
        == "allow"
    )


def test_a_condition_on_what_a_call_does_not_have_does_not_apply():
    rules = policy(
        rule("allow"), rule("deny", path="/**"), rule("deny", host="a.test"), rule("deny", command="ls")
    )
    assert decide(rules, Request("plan")).action == "allow"


def test_every_command_of_a_line_needs_consent_and_each_may_have_its_own():
    rules = policy(rule("allow", "bash", command="ls"), rule("allow", "bash", command="git status"))
    assert decide(rules, bash("ls -l && git status; ls")).action == "allow"
    assert decide(rules, bash("ls -l && git push")).action == "deny"
    assert decide(rules, bash("ls && git status")).rule == (
        "rule 1 (allow bash, command ls) and rule 2 (allow bash, command git status)"
    )


def test_a_refusal_of_one_command_refuses_the_line():
    rules = policy(rule("allow"), rule("ask", "bash", command="git push"))
    assert decide(rules, bash("true && git push")).action == "ask"
    assert decide(rules, bash("git status")).action == "allow"


def test_a_line_without_a_clear_reading_says_why_it_was_not_allowed():
    decision = decide(policy(rule("allow", "bash", command="echo")), bash("echo $HOME"))
    assert decision.action == "deny"
    assert "it has an expansion" in decision.reason


def test_an_empty_command_line_is_no_consent():
    assert decide(policy(rule("allow", "bash", command="ls")), bash(" \n ")).action == "deny"


def test_a_megabyte_of_command_is_decided():
    rules = policy(
        rule("allow", "bash", command="echo"), *[rule("ask", "bash", command=f"x{n} y") for n in range(50)]
    )
    for text in ("echo " + "a " * 500_000, "(" * 1_000_000, "'" * 999_999, "a|" * 500_000, "\\" * 1_000_000):
        assert decide(rules, bash(text)).action == "deny"
    assert decide(rules, bash("echo " + "a " * 500_000 + "; x7 y")).action == "ask"
