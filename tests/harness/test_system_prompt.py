"""The system prompt says of network and sudo what is true under the policy."""

from __future__ import annotations

import pytest

from harness.prompt import system_prompt
from policies import load
from policies.schema import Network, Policy, Rule, Secret, Secrets, Sudo, When


@pytest.mark.parametrize("profile", ["strict", "dev", "eval", "offline"])
def test_a_prompt_is_the_same_every_time_and_fits_a_page(profile):
    text = system_prompt(load(profile))
    assert text == system_prompt(load(profile))
    assert max(map(len, text.splitlines())) <= 110
    assert text.count("\n\n") == 1


@pytest.mark.parametrize(
    ("profile", "network", "sudo"),
    [
        ("strict", "refused until the user allows it", True),
        ("dev", "put to the user when a program connects", True),
        ("offline", "There is no network", True),
        ("eval", "There is no network", False),
    ],
)
def test_each_profile_is_told_what_it_can_reach_and_ask_for(profile, network, sudo):
    text = " ".join(system_prompt(load(profile)).split())
    assert network in text
    assert ("`sudo` asks the user" in text) is sudo


def test_allowed_hosts_are_named_and_what_cannot_be_asked_for_is_not():
    rule = Rule(syscall="network", when=When(host="b.example"), action="allow", reason="Listed.")
    policy = Policy(
        name="x",
        network=Network(allow=("a.example",)),
        rules=(rule,),
        secrets=Secrets(bound=(Secret(name="TOKEN", host="a.example", ask=True),)),
        sudo=Sudo(may_ask=("secret", "host_path")),
    )
    text = " ".join(system_prompt(policy).split())
    assert "Allowed: a.example, b.example. " in text
    assert "the use of a secret (TOKEN)" in text
    assert "a copy of a file" not in text
    assert "until the user allows it" not in text
