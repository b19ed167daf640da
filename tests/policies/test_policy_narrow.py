"""A child's policy gives nothing that its parent's does not, over policies and narrowings at random."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import Policy, load
from policies.decide import Request, decide
from policies.egress import decide_connection, decide_request
from policies.load import profiles
from policies.narrow import MAY_ASK, Narrowing, narrow
from policies.schema import Limits, Network, Rule, Sudo, When

HOSTS = ("a.test", "*.b.test", "x.b.test", "b.test", "10.0.0.1", "a.test:22")
STRICTNESS = {"allow": 0, "ask": 1, "deny": 2}
REQUESTS = (
    Request("bash", command="git push"),
    Request("bash", command="ls && git push"),
    Request("write", path="/workspace/a"),
    Request("edit", path="/workspace/a"),
    Request("merge"),
    Request("read", path="/etc/passwd"),
    Request("spawn"),
    Request("sudo", host="a.test"),
)
LIMITS = {"turns": 10, "tokens": 1000, "memory_mb": 64, "pids": 100, "egress_mb": 5, "command_s": 9.0}

whens = st.one_of(
    st.just(When()),
    st.just(When(command="git push")),
    st.just(When(path="/workspace/**")),
    st.sampled_from([When(host="a.test"), When(host="*.b.test")]),
)
rules = st.builds(
    Rule,
    syscall=st.sampled_from(["*", "bash", "write", "network", "read", "spawn"]),
    when=whens,
    action=st.sampled_from(["allow", "ask", "deny"]),
    reason=st.just("A reason."),
    tightens=st.booleans(),
)
policies = st.builds(
    Policy,
    name=st.just("p"),
    limits=st.builds(
        Limits,
        children=st.integers(0, 5),
        spawn_depth=st.integers(0, 3),
        turns=st.integers(1, 100),
        cost_usd=st.one_of(st.none(), st.floats(0.01, 5)),
    ),
    network=st.builds(
        Network, allow=st.lists(st.sampled_from(HOSTS), max_size=3).map(tuple), ask=st.booleans()
    ),
    sudo=st.builds(
        Sudo,
        may_ask=st.sets(st.sampled_from(["network", "root", "secret", "host_path", "limits"])).map(
            lambda kinds: tuple(sorted(kinds))
        ),
    ),
    rules=st.lists(rules, max_size=5).map(tuple),
    unmatched=st.sampled_from(["deny", "ask"]),
)
narrowings = st.builds(
    Narrowing,
    profile=st.one_of(st.none(), st.sampled_from(profiles()).map(load)),
    network=st.one_of(st.none(), st.lists(st.sampled_from(HOSTS), max_size=2)),
    read_only=st.booleans(),
    limits=st.dictionaries(st.sampled_from(sorted(LIMITS)), st.integers(16, 200), max_size=2),
    children=st.integers(0, 3),
)


@given(policies, narrowings)
def test_no_child_may_do_what_its_parent_may_not(parent, asked):
    try:
        child = narrow(parent, asked)
    except ValueError:
        return  # what is not given cannot be too much
    for request in REQUESTS:
        ours, theirs = decide(parent, request), decide(child, request)
        assert STRICTNESS[theirs.action] >= STRICTNESS[ours.action], request
    for host, port in itertools.product(
        ("a.test", "x.b.test", "b.test", "10.0.0.1", "c.test"), (22, 80, 443)
    ):
        reached = decide_connection(child, host, port)
        assert STRICTNESS[reached.action] >= STRICTNESS[decide_connection(parent, host, port).action], host
        if asked.network is not None and not asked.network:
            assert reached.action == "deny"
        if decide_request(child, host, "POST", "/x").action == "allow":
            assert decide_request(parent, host, "POST", "/x").action == "allow"
    for name in Limits.model_fields:
        before, after = getattr(parent.limits, name), getattr(child.limits, name)
        assert before is None or (after is not None and after <= before), name
    assert child.limits.spawn_depth < parent.limits.spawn_depth
    assert child.limits.children == asked.children < parent.limits.children
    assert set(child.sudo.may_ask) <= set(parent.sudo.may_ask) & MAY_ASK
    assert child.container.image == parent.container.image
    assert set(child.container.capabilities) <= set(parent.container.capabilities)
    assert set(child.secrets.bound) <= set(parent.secrets.bound)
    assert set(child.secrets.env) <= set(parent.secrets.env)


def test_a_rule_that_asks_about_a_host_opens_nothing_beside_the_list():
    asks = Rule(syscall="network", when=When(host="x.test"), action="ask", reason="Look first.")
    parent = load("dev").model_copy(update={"rules": (*load("dev").rules, asks)})
    assert decide_connection(parent, "x.test", 443).action == "ask"
    assert decide_connection(narrow(parent, Narrowing(network=())), "x.test", 443).action == "deny"


@pytest.mark.parametrize("host", ["evil.test", "*.test", "a.test.evil.test", "not a host", "@pip"])
def test_a_host_that_the_parent_does_not_have_is_refused_by_name(host):
    parent = Policy(name="p", network=Network(allow=("a.test",)))
    with pytest.raises(ValueError, match=r"network|host"):
        narrow(parent, Narrowing(network=(host,)))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("turns", -1.0),
        ("turns", 1.5),
        ("turns", float("nan")),
        ("command_s", float("nan")),
        ("command_s", 0.0),
    ],
)
def test_a_limit_that_is_none_is_refused_in_one_line_that_names_it(name, value):
    with pytest.raises(ValueError, match=rf"\Alimits: {name}: [^\n]+\Z"):
        narrow(load("dev"), Narrowing(limits={name: value}))
