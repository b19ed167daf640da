"""What holds of every decision, whatever rules in whatever order and layer: generated, not picked."""

from __future__ import annotations

import itertools
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from policies import Policy
from policies.decide import Decision, Request, decide
from policies.egress import decide_connection
from policies.explain import explain, explain_connection
from policies.load import over
from policies.schema import Ceilings, Container, Limits, Network, Rule, Secrets, Sudo, When, Workspace
from policies.tighten import tighten

RANK = {"allow": 0, "ask": 1, "deny": 2}
COMMANDS = [
    "ls",
    "ls -la",
    "git push",
    "git -C x push",
    "rm x && ls",
    "env rm x",
    "$(rm x)",
    "ls | rm",
    "a;;b",
    "",
]
PATHS = ["/workspace/a", "/workspace/../etc/x", "/etc/passwd", "relative", "/workspace-evil/a"]
HOSTS = ["a.test", "b.a.test", "A.TEST.", "evil.test", "127.0.0.1", "2130706433"]
PORTS = [22, 80, 443, 8443]

WHENS = st.builds(
    When,
    command=st.none() | st.sampled_from(["ls", "git push", "rm", "git"]),
    path=st.none() | st.sampled_from(["/workspace/**", "/etc/*", "/**"]),
    host=st.none() | st.sampled_from(["a.test", "*.a.test", "127.0.0.1"]),
)
RULES = st.builds(
    Rule,
    syscall=st.sampled_from(["*", "bash", "read", "network"]),
    when=WHENS,
    action=st.sampled_from(["allow", "ask", "deny"]),
    reason=st.just("Because."),
)
REQUESTS = st.one_of(
    st.sampled_from(COMMANDS).map(lambda text: Request("bash", command=text)),
    st.sampled_from(PATHS).map(lambda text: Request("read", path=text)),
    st.sampled_from(HOSTS).map(lambda text: Request("network", host=text)),
    st.just(Request("plan")),
)
ENTRIES = st.sampled_from(
    [
        "a.test",
        "*.a.test",
        "*.test",
        "a.test:443",
        "a.test:8443",
        "evil.test",
        "127.0.0.1",
        "127.0.0.1:22",
        "@pip",
    ]
)


def some(values: st.SearchStrategy[object], most: int = 3) -> st.SearchStrategy[tuple[object, ...]]:
    return st.lists(values, max_size=most, unique=True).map(tuple)


POLICIES = st.builds(
    Policy,
    name=st.just("any"),
    rules=st.lists(RULES, max_size=4).map(tuple),
    unmatched=st.sampled_from(["deny", "ask"]),
    network=st.builds(
        Network,
        allow=some(ENTRIES),
        ask=st.booleans(),
        ports=some(st.sampled_from(PORTS)),
        addresses=some(st.sampled_from(["10.0.0.0/8", "127.0.0.1/32"])),
        intercept=st.booleans(),
    ),
    limits=st.builds(Limits, memory_mb=st.sampled_from([64, 128]), cost_usd=st.none() | st.just(1.0)),
    workspace=st.builds(
        Workspace,
        mode=st.sampled_from(["copy", "overlay", "bind"]),
        include=some(st.sampled_from(["a", "b"])),
    ),
    container=st.builds(
        Container,
        runtime=st.sampled_from(["runc", "runsc"]),
        require_runtime=st.sampled_from([None, "runc", "runsc"]),
        seccomp=st.sampled_from(["strict", "default", "debug"]),
        user=st.sampled_from(["sandbox", "root"]),
        writable_root=st.booleans(),
        capabilities=some(st.sampled_from(["CHOWN", "SETUID"])),
    ),
    secrets=st.builds(Secrets, env=some(st.sampled_from(["A", "B"]))),
    sudo=st.builds(
        Sudo,
        may_ask=some(st.sampled_from(["network", "root", "host_path"])),
        timeout_s=st.sampled_from([1.0, 300.0]),
        host_paths=some(st.sampled_from(["/srv/a", "/srv/**"])),
        limits=st.builds(Ceilings, pids=st.sampled_from([None, 100, 4000])),
    ),
)


def with_rules(*rules: Rule) -> Policy:
    return Policy(name="any", rules=rules)


@given(st.lists(RULES, min_size=1, max_size=4), REQUESTS)
def test_the_order_of_rules_and_layers_changes_no_action(rules: list[Rule], request: Request) -> None:
    actions = {decide(with_rules(*order), request).action for order in itertools.permutations(rules)}
    assert len(actions) == 1
    for cut in range(len(rules) + 1):
        layered = over(with_rules(*rules[:cut]), with_rules(*rules[cut:]))
        assert {decide(layered, request).action} == actions


@given(st.lists(RULES, max_size=4), RULES, REQUESTS)
def test_one_more_refusal_never_allows_more(rules: list[Rule], rule: Rule, request: Request) -> None:
    before = decide(with_rules(*rules), request)
    after = decide(with_rules(rule, *rules), request)
    if rule.action == "deny":
        assert RANK[after.action] >= RANK[before.action]
    if rule.action == "ask":
        # Where nothing spoke, a question is less than the refusal of silence.
        assert RANK[after.action] >= RANK[before.action] or before.rule == "default"


@given(st.lists(RULES, max_size=4), REQUESTS)
def test_deny_beats_ask_beats_allow(rules: list[Rule], request: Request) -> None:
    alone = [decide(with_rules(rule), request) for rule in rules]
    spoke = [decision.action for decision in alone if decision.rule != "default"]
    decided = decide(with_rules(*rules), request)
    if spoke:
        assert decided.action == max(spoke, key=RANK.__getitem__)


@settings(max_examples=60)
@given(POLICIES, POLICIES, REQUESTS, st.sampled_from(HOSTS), st.sampled_from(PORTS))
def test_a_projects_file_allows_nothing_that_the_policy_does_not(
    base: Policy, project: Policy, request: Request, host: str, port: int
) -> None:
    policy = tighten(base, project).policy
    assert RANK[decide(policy, request).action] >= RANK[decide(base, request).action]
    assert (
        RANK[decide_connection(policy, host, port).action] >= RANK[decide_connection(base, host, port).action]
    )
    assert tighten(policy, project).policy.model_copy(update={"rules": policy.rules}) == policy


@settings(max_examples=60)
@given(POLICIES, POLICIES)
def test_a_projects_file_widens_no_setting(base: Policy, project: Policy) -> None:
    policy = tighten(base, project).policy
    container, ours = policy.container, base.container
    order = ("strict", "default", "debug")
    assert order.index(container.seccomp) <= order.index(ours.seccomp)
    assert container.runtime in ("runsc", ours.runtime)
    assert container.require_runtime in ("runsc", ours.require_runtime) or ours.require_runtime is None
    assert (container.user, container.writable_root) <= (ours.user, ours.writable_root) or (
        container.user in ("sandbox", ours.user) and container.writable_root <= ours.writable_root
    )
    assert set(container.capabilities) <= set(ours.capabilities)
    modes = ("copy", "overlay", "bind")
    assert modes.index(policy.workspace.mode) <= modes.index(base.workspace.mode)
    for ours_, theirs in (
        (base.workspace.include, policy.workspace.include),
        (base.network.ports, policy.network.ports),
        (base.network.addresses, policy.network.addresses),
        (base.secrets.env, policy.secrets.env),
        (base.sudo.may_ask, policy.sudo.may_ask),
        (base.sudo.host_paths, policy.sudo.host_paths),
    ):
        assert set(theirs) <= set(ours_)
    assert policy.sudo.timeout_s <= base.sudo.timeout_s
    assert base.sudo.limits.pids is None or (policy.sudo.limits.pids or 10**6) <= base.sudo.limits.pids
    assert policy.network.intercept == base.network.intercept
    assert policy.limits.memory_mb <= base.limits.memory_mb


@given(st.lists(RULES, max_size=4), REQUESTS)
def test_an_explanation_agrees_with_the_decision(rules: list[Rule], request: Request) -> None:
    policy = with_rules(*rules)
    explained = explain(policy, request)
    assert explained.decision == decide(policy, request)
    by_name = {reading.rule: reading.applies for reading in explained.rules}
    if explained.decision.rule != "default":
        assert all(by_name[name] for name in explained.decision.rule.split(" and "))
    strict = [r for r in explained.rules if r.applies and r.rule.split("(")[1].startswith(("deny", "ask"))]
    assert bool(strict) == (explained.decision.rule != "default" and explained.decision.action != "allow")


@given(POLICIES, st.sampled_from(HOSTS), st.sampled_from(PORTS))
def test_an_explanation_of_a_connection_names_what_allows_it(policy: Policy, host: str, port: int) -> None:
    explained = explain_connection(policy, host, port)
    assert explained.decision == decide_connection(policy, host, port)
    applying = [reading.rule for reading in explained.rules if reading.applies]
    if explained.decision.action == "allow":
        assert explained.decision.rule in applying


def test_layers_of_files_decide_as_one(tmp_path: Path) -> None:
    from policies import load

    texts = {action: f'[[rules]]\nsyscall = "bash"\naction = "{action}"\nreason = "R."\n' for action in RANK}
    files = {}
    for action, text in texts.items():
        files[action] = tmp_path / f"{action}.toml"
        files[action].write_text(text)
    decided: set[Decision] = set()
    for order in itertools.permutations(files):
        decided.add(
            decide(load("strict", *(files[action] for action in order)), Request("bash", command="ls"))
        )
    assert {decision.action for decision in decided} == {"deny"}
