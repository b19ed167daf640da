"""The policy's word about connections: nothing opens the network but what names it."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import load
from policies.egress import decide_connection, decide_request, normal_target
from policies.schema import Network, Policy, RequestRule, Rule, When


def policy(*rules: Rule, **network: Any) -> Policy:
    return Policy(name="test", network=Network(**network), rules=rules)


def rule(action: str, host: str | None = None, syscall: str = "network", **when: str) -> Rule:
    return Rule(syscall=syscall, action=action, when=When(host=host, **when), reason=f"It says {action}.")  # type: ignore[arg-type]


def action(made: Policy, host: str = "allowed.test", port: int = 443, **given_: Any) -> str:
    return decide_connection(made, host, port, **given_).action


@pytest.mark.parametrize("name", ["strict", "dev", "eval", "offline"])
def test_no_built_in_profile_lets_anything_out_unasked(name: str) -> None:
    assert action(load(name)) in ("ask", "deny")
    assert action(load(name)) == ("ask" if load(name).network.ask else "deny")


def test_a_list_without_entries_and_a_rule_for_everything_allow_nothing() -> None:
    assert action(policy()) == "deny"
    assert action(policy(rule("allow", syscall="*"))) == "deny"
    assert action(policy(rule("allow", "allowed.test", syscall="*"))) == "deny"
    assert action(policy(rule("allow"))) == "deny"
    assert action(policy(rule("allow", "allowed.test"))) == "allow"
    assert action(policy(rule("allow", "allowed.test")), port=22) == "deny"
    assert action(policy(rule("allow", "allowed.test", path="/x"))) == "deny"


def test_entries_mean_their_port_or_the_usual_ones() -> None:
    made = policy(allow=("allowed.test", "other.test:8080", "*.wild.test"), ports=(443, 8443))
    assert [action(made, port=port) for port in (443, 8443, 80)] == ["allow", "allow", "deny"]
    assert [action(made, "other.test", port) for port in (8080, 443)] == ["allow", "deny"]
    assert [action(made, host) for host in ("a.wild.test", "wild.test", "evil-wild.test")] == [
        "allow", "deny", "deny",
    ]  # fmt: skip
    assert decide_connection(made, "other.test", 8080).named_port
    assert not decide_connection(made, "allowed.test", 443).named_port
    for port in (0, -1, 65_536):
        assert action(made, port=port) == "deny"


def test_deny_beats_a_grant_beats_ask_beats_the_list_in_any_order() -> None:
    rules = (rule("deny", "denied.test"), rule("ask", "*.test", syscall="*"), rule("allow", "denied.test"))
    for order in permutations(rules):
        made = policy(*order, allow=("*.test",))
        assert action(made, "denied.test", granted=["denied.test:443"]) == "deny"
        assert action(made, "other.test") == "ask"
        assert action(made, "other.test", granted=["other.test:443"]) == "allow"
        assert action(made, "other.test", granted=["other.test:80", "another.test:443"]) == "ask"


def test_a_rule_about_commands_or_files_says_nothing_about_the_network() -> None:
    made = policy(rule("deny", syscall="*", command="git push"), allow=("allowed.test",))
    assert action(made) == "allow"
    assert action(policy(rule("deny", syscall="*"), allow=("allowed.test",))) == "deny"
    assert action(policy(rule("deny"), allow=("allowed.test",))) == "deny"
    assert action(policy(rule("deny", syscall="bash"), allow=("allowed.test",))) == "allow"


@given(st.text(max_size=40))
def test_no_text_is_reached_by_a_list_that_does_not_hold_it(host: str) -> None:
    made = policy(allow=("allowed.test", "*.wild.test", "10.0.0.1:443"))
    reach = decide_connection(made, host, 443)
    said = host.lower().removesuffix(".")
    listed = said in ("allowed.test", "10.0.0.1") or said.endswith(".wild.test")
    assert reach.action == "deny" or listed
    assert reach.reason.isprintable()


@given(st.integers(0, 2**32 - 1))
def test_a_wildcard_is_never_an_address(number: int) -> None:
    made = policy(allow=("*.test",))
    for host in (str(number), hex(number), f"{number & 255}.1.1.1", f"[::{number & 0xFFFF:x}]"):
        assert action(made, host) == "deny"


@pytest.mark.parametrize(
    ("target", "normal"),
    [
        ("/", "/"), ("/a/b", "/a/b"), ("/a//b", "/a/b"), ("//a", "/a"), ("/a/./b/../c", "/a/c"),
        ("/a/", "/a/"), ("/a/..", "/"), ("/a/b/..", "/a/"), ("/%61", "/a"), ("/%7Ea", "/~a"),
        ("/%2e%2e/x", "/x"), ("/a%20b", "/a%20b"), ("/a%c3%a9", "/a%C3%A9"),
        ("/a?b=%2f//..;", "/a?b=%2f//..;"),
        ("/../../etc", "/etc"), ("/..%2fx", None), ("/%2F", None), ("/%5c", None), ("/a\\b", None),
        ("/%00", None), ("/a;b", None), ("/%3b", None), ("/%252e", None), ("/%zz", None), ("/%", None),
        ("/%2", None), ("/% 41", None), ("/%+1", None), ("/é", None), ("a", None), ("", None), ("/a#b", None),
        ("*", None), ("/a b", None), ('/"', None),
    ],
)  # fmt: skip
def test_a_path_has_one_form_or_none(target: str, normal: str | None) -> None:
    assert normal_target(target) == normal


@given(st.text(alphabet="/.%2efFab?;", max_size=30))
def test_the_one_form_of_a_path_is_its_own(target: str) -> None:
    normal = normal_target("/" + target)
    if normal is not None:
        assert normal_target(normal) == normal
        assert "/../" not in normal.partition("?")[0] + "/"


def test_a_host_that_is_named_takes_only_what_a_rule_allows() -> None:
    read = RequestRule(host="*.wild.test", paths=("/repo/**",), reason="Read only.")
    write = RequestRule(
        host="a.wild.test", methods=("POST",), paths=("/repo/git-upload-pack",), reason="Fetch."
    )
    made = policy(requests=(read, write))
    assert decide_request(made, "other.test", "DELETE", "/x").action == "allow"
    allowed = [("a.wild.test", "GET", "/repo/x"), ("a.wild.test", "POST", "/repo/git-upload-pack")]
    refused = [
        ("a.wild.test", "POST", "/repo/x"), ("b.wild.test", "POST", "/repo/git-upload-pack"),
        ("a.wild.test", "GET", "/other"), ("a.wild.test", "GET", "/repo/../other"),
        ("a.wild.test", "get", "/repo/x"), ("a.wild.test", "GET", "/repo/%2e%2e%2fother"),
    ]  # fmt: skip
    assert {decide_request(made, *request).action for request in allowed} == {"allow"}
    assert {decide_request(made, *request).action for request in refused} == {"deny"}
