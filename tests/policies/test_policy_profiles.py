"""The built-in profiles are what their names promise, and can be read by people."""

from importlib import resources

import pytest

from policies import Policy, load
from policies.describe import describe
from policies.load import profiles
from policies.schema import Network


@pytest.mark.parametrize("name", ["strict", "dev", "eval", "offline"])
def test_a_profile_loads_under_its_own_name_and_gives_every_rule_a_reason(name):
    policy = load(name)
    assert policy.name == name
    assert policy.description
    assert all(len(rule.reason) > 20 for rule in policy.rules)
    assert policy.unmatched == "deny"


def test_strict_gives_nothing_away():
    strict = load("strict")
    assert strict.network == Network(allow=(), ask=False)
    assert (strict.container.seccomp, strict.container.user) == ("strict", "sandbox")
    assert not strict.container.writable_root
    assert strict.container.capabilities == ()
    assert strict.secrets.env == ()


def test_only_the_profile_for_trials_has_root_inside():
    assert [name for name in profiles() if load(name).container.user == "root"] == ["eval"]


def test_offline_is_dev_without_the_question_about_the_network():
    dev, offline = load("dev"), load("offline")
    assert dev.network.ask
    assert not offline.network.ask
    same = ("limits", "workspace", "container", "secrets")
    assert [getattr(dev, table) for table in same] == [getattr(offline, table) for table in same]


def test_no_profile_names_a_host():
    for name in profiles():
        assert load(name).network.allow == ()
        text = (resources.files("policies") / "profiles" / f"{name}.toml").read_text()
        assert "http" not in text
        assert ".org" not in text
        assert ".com" not in text


@pytest.mark.parametrize("name", ["strict", "dev", "eval", "offline"])
def test_a_description_says_every_field_and_every_reason(name):
    policy = load(name)
    text = describe(policy)
    for table in ("limits", "network", "workspace", "container", "secrets"):
        for field, _ in getattr(policy, table):
            assert f"  {field} " in text
    assert all(rule.reason in text for rule in policy.rules)
    assert "cost_usd          no limit" in text
    assert text.endswith("otherwise: deny")


def test_a_description_says_when_a_rule_applies():
    rule = {"syscall": "bash", "action": "ask", "reason": "Mine.", "when": {"command": "git push"}}
    text = describe(Policy.model_validate({"name": "x", "rules": [rule]}))
    assert "rule 1 (ask bash, command git push)\n    Mine." in text
