"""Lint points at what gives away more than it seems to, or does nothing; the built-in profiles are clean."""

import pytest

from policies import Policy, load
from policies.lint import lint
from policies.load import profiles

REQUESTS = "[network]\nintercept = true\n[[network.requests]]\nhost = 'a.test'\nreason = 'R.'\n"
BOUND = "[network]\nintercept = true\nask = {}\nallow = {}\n[[secrets.bound]]\nname = 'T'\nhost = '{}'\n"
PYTHON = "when.command = 'python3'"
RULE = '[[rules]]\nsyscall = "{}"\n{}\naction = "{}"\nreason = "R."\n'


@pytest.fixture
def warnings(policy_file):
    def run(text: str) -> list[str]:
        policy = load(policy_file(text))
        return [f"{f.key}: {f.text}" for f in lint(policy, ("bash", "read", "write")) if f.level == "warning"]

    return run


@pytest.mark.parametrize("name", profiles())
def test_a_built_in_profile_has_no_warning(name):
    assert [finding for finding in lint(load(name), ("bash",)) if finding.level == "warning"] == []


@pytest.mark.parametrize(
    ("text", "key", "what"),
    [
        ("[network]\nallow = ['*.test']\n", "network.allow", "public suffix"),
        ("[network]\nallow = ['*.co.uk']\n", "network.allow", "public suffix"),
        ("[network]\nallow = ['*.s3.example.test']\n", "network.allow", "anybody may have a name"),
        ("[network]\nallow = ['*.eu-storage.example.test']\n", "network.allow", "anybody may have a name"),
        ("[network]\nallow = ['a.test:22']\n", "network.allow", "ssh"),
        ("[network]\nports = [22]\n", "network.ports", "ssh"),
        ("[network]\naddresses = ['169.254.0.0/16']\n", "network.addresses", "metadata"),
        ("[network]\naddresses = ['0.0.0.0/0']\n", "network.addresses", "metadata"),
        ("[network]\naddresses = ['127.0.0.0/8']\n", "network.addresses", "own services"),
        ("[network]\naddresses = ['10.0.0.0/8']\n", "network.addresses", "16,777,216"),
        (REQUESTS, "network.requests", "never reached"),
        ("[network]\nask = true\n[sudo]\nmay_ask = ['root']\n", "network.ask", "sudo.may_ask"),
        ("[workspace]\nmode = 'bind'\n", "workspace.mode", "without a review"),
        ("[container]\nuser = 'root'\nwritable_root = true\n", "container.writable_root", "every program"),
        ("[container]\nseccomp = 'debug'\n", "container.seccomp", "read and stop"),
        ("[container]\nrequire_runtime = 'runsc'\n", "container.require_runtime", "nothing starts"),
        ("[secrets]\nenv = ['TOKEN']\n", "secrets.env", "TOKEN"),
        (BOUND.format("false", [], "a.test"), "secrets.bound", "never used"),
        (BOUND.format("true", [], "*.a.test"), "secrets.bound", "many hosts"),
        ("[sudo]\nhost_paths = ['/home/me/**']\n", "sudo.host_paths", "/home/me/.ssh/id_ed25519"),
        ("[sudo]\nhost_paths = ['/home/*/.aws/*']\n", "sudo.host_paths", ".aws/credentials"),
        ("[sudo]\nhost_paths = ['/var/**']\n", "sudo.host_paths", "docker.sock"),
        ("unmatched = 'ask'\n[sudo]\nmay_ask = []\n", "sudo.may_ask", "unmatched"),
        (RULE.format("bash", "", "ask") + "[sudo]\nmay_ask = []\n", "sudo.may_ask", "ask bash"),
        (RULE.format("bsh", "", "deny"), "rules", "no syscall bsh"),
        (RULE.format("read", "when.command = 'ls'", "deny"), "rules", "only bash has a command"),
        (RULE.format("bash", "when.path = '/x'", "deny"), "rules", "has no path"),
        (RULE.format("bash", "when.host = 'a.test'", "deny"), "rules", "has no host"),
        (RULE.format("bash", "when.command = 'ls'", "allow"), "rules", "changes nothing"),
        (RULE.format("*", "", "deny") + RULE.format("bash", "when.command = 'ls'", "ask"), "rules", "rule 3"),
        ("extends = 'none'\n" + RULE.format("bash", PYTHON, "allow"), "rules", "can change"),
        ("extends = 'none'\n" + RULE.format("bash", "", "deny") * 2, "rules", "rule 2"),
    ],
)  # fmt: skip
def test_what_gives_much_away_or_nothing_is_pointed_at(warnings, text, key, what):
    assert [line for line in warnings(text) if line.startswith(key) and what in line], warnings(text)


@pytest.mark.parametrize(
    "text",
    [
        "[network]\nallow = ['a.test', '*.b.example.test', 'a.test:8443', '@pip']\n",
        REQUESTS.replace("true", "true\nallow = ['a.test']"),
        BOUND.format("false", ["a.test"], "a.test"),
        "[network]\naddresses = ['192.168.1.0/24']\n",
        "[sudo]\nhost_paths = ['/srv/data/**']\n",
        RULE.format("bash", "when.command = 'git push'", "ask"),
        RULE.format("network", "when.host = 'a.test'", "allow"),
        RULE.format("bash", "when.command = 'ls'", "ask")
        + RULE.format("bash", "when.command = 'ls -l'", "deny"),
        "extends = 'none'\n" + RULE.format("bash", "when.command = 'git log'", "allow"),
    ],
)
def test_ordinary_settings_are_left_alone(warnings, text):
    assert warnings(text) == []


def test_without_the_names_of_syscalls_none_is_doubted():
    rule = {"syscall": "later", "action": "deny", "reason": "R."}
    assert lint(Policy.model_validate({"name": "x", "rules": [rule]})) == []
