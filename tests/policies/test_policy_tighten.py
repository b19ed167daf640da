"""A project's own file only ever tightens; what it cannot have is said."""

import pytest

from policies import Policy, load
from policies.decide import Request, decide
from policies.egress import decide_connection
from policies.load import PROJECT_FILE, load_project
from policies.schema import Ceilings, Container, Limits, Network, Rule, Secret, Secrets, Sudo, Workspace
from policies.tighten import Tightened, tighten

WIDE = Policy(
    name="wide",
    limits=Limits(memory_mb=1000, cost_usd=None),
    network=Network(allow=("a.test", "*.b.test"), ask=True),
    workspace=Workspace(exclude=("x",), include=("keep", ".env.example")),
    container=Container(
        seccomp="debug", user="root", runtime="runc", writable_root=True, capabilities=("CHOWN", "SETUID")
    ),
    secrets=Secrets(env=("TOKEN",)),
    rules=(Rule(syscall="*", action="allow", reason="Contained."),),
    unmatched="ask",
)
NARROW = Policy(name="narrow", limits=Limits(memory_mb=500, cost_usd=1), rules=WIDE.rules)


@pytest.fixture
def tightened(policy_file):
    def run(base: Policy, text: str) -> Tightened:
        return tighten(base, load_project(policy_file(text, PROJECT_FILE)))

    return run


def test_what_is_tighter_is_taken(tightened):
    result = tightened(
        WIDE,
        """
        unmatched = "deny"
        [limits]
        memory_mb = 100
        cost_usd = 2.5
        [network]
        allow = ["a.test", "x.b.test", "*.y.b.test"]
        ask = false
        [workspace]
        exclude = ["y"]
        include = ["keep"]
        [container]
        seccomp = "default"
        user = "sandbox"
        runtime = "runsc"
        writable_root = false
        capabilities = ["CHOWN"]
        [secrets]
        env = []
        [[rules]]
        syscall = "bash"
        when.command = "git push"
        action = "deny"
        reason = "Releases are made by hand."
        """,
    )
    policy = result.policy
    assert result.ignored == ()
    assert (policy.limits.memory_mb, policy.limits.cost_usd, policy.unmatched) == (100, 2.5, "deny")
    assert policy.network == Network(allow=("a.test", "x.b.test", "*.y.b.test"), ask=False)
    assert policy.workspace == Workspace(exclude=("x", "y"), include=("keep",))
    assert policy.container == Container(seccomp="default", runtime="runsc", capabilities=("CHOWN",))
    assert policy.secrets.env == ()
    assert [rule.action for rule in policy.rules] == ["allow", "deny"]
    assert policy.limits.pids == WIDE.limits.pids


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[limits]\nmemory_mb = 501\n", "limits.memory_mb: 501"),
        ("[limits]\ncost_usd = 2\n", "limits.cost_usd: 2"),
        ("[network]\nallow = ['evil.test']\n", "network.allow: evil.test"),
        ("[network]\nask = true\n", "network.ask: True"),
        ("[workspace]\ninclude = ['.env']\n", "workspace.include: .env"),
        ("[container]\nseccomp = 'default'\n", "container.seccomp: default"),
        ("[container]\nuser = 'root'\n", "container.user: root"),
        ("[container]\nwritable_root = true\n", "container.writable_root: True"),
        ("[container]\ncapabilities = ['SETUID']\n", "container.capabilities: SETUID"),
        ("[container]\nimage = 'evil/image'\n", "container.image"),
        ("[secrets]\nenv = ['TOKEN']\n", "secrets.env: TOKEN"),
        ("unmatched = 'ask'\n", "unmatched: ask"),
        ("[[rules]]\nsyscall = '*'\naction = 'allow'\nreason = 'Please.'\n", "rules[1]"),
    ],
)
def test_what_is_looser_is_ignored_and_said(tightened, text, key):
    result = tightened(NARROW, text)
    assert result.policy == NARROW
    assert len(result.ignored) == 1
    assert result.ignored[0].startswith(key)


def test_a_runtime_with_a_kernel_of_its_own_is_not_given_up(tightened):
    base = load("strict").model_copy(update={"container": Container(runtime="runsc")})
    assert tightened(base, "[container]\nruntime = 'runc'\n").policy.container.runtime == "runsc"


def test_a_wider_host_pattern_leaves_what_both_allow(tightened):
    base = NARROW.model_copy(update={"network": Network(allow=("x.b.test", "c.test"))})
    result = tightened(base, "[network]\nallow = ['*.b.test']\n")
    assert result.policy.network.allow == ("x.b.test",)
    assert result.ignored == ()


def test_only_what_the_file_says_is_looked_at(tightened):
    assert tightened(WIDE, "[limits]\nturns = 10\n") == Tightened(
        WIDE.model_copy(update={"limits": WIDE.limits.model_copy(update={"turns": 10})}), ()
    )


def test_no_limit_is_looser_than_any_limit():
    project = Policy.model_validate({"name": "project", "limits": {"cost_usd": None}})
    assert tighten(NARROW, project) == Tightened(
        NARROW, ("limits.cost_usd: no limit is looser than the policy in force",)
    )


def test_entries_with_ports_meet_in_what_both_name(tightened):
    base = NARROW.model_copy(update={"network": Network(allow=("*.b.test", "a.test", "c.test:22", "@pip"))})
    text = "[network]\nallow = ['x.b.test', 'a.test:443', '*.test', 'c.test:22', '@npm', '@pip']\n"
    result = tightened(base, text)
    assert set(result.policy.network.allow) == {"x.b.test", "a.test", "*.b.test", "c.test:22", "@pip"}
    # A port of its own is neither more nor less than the usual ones, so it is not taken for tighter.
    assert [line.split(": ")[1].split(" ")[0] for line in result.ignored] == ["a.test:443", "@npm"]


WIDE_TABLES = {
    "network": Network(
        allow=("a.test",), ports=(80, 443, 22), addresses=("10.0.0.0/8",), intercept=True, ca_file="/ca.pem"
    ),
    "workspace": Workspace(mode="overlay"),
    "container": Container(require_runtime="runc"),
    "sudo": Sudo(
        may_ask=("network", "root"),
        timeout_s=100,
        host_paths=("/srv/**", "/data/x"),
        limits=Ceilings(memory_mb=2000),
    ),
    "secrets": Secrets(bound=(Secret(name="T", host="a.test"),)),
}


@pytest.mark.parametrize(
    ("text", "table", "field", "value"),
    [
        ("[network]\nports = [443]\n", "network", "ports", (443,)),
        ("[network]\naddresses = []\n", "network", "addresses", ()),
        ("[workspace]\nmode = 'copy'\n", "workspace", "mode", "copy"),
        ("[container]\nrequire_runtime = 'runsc'\n", "container", "require_runtime", "runsc"),
        ("[sudo]\nmay_ask = ['root']\n", "sudo", "may_ask", ("root",)),
        ("[sudo]\nmay_ask = []\n", "sudo", "may_ask", ()),
        ("[sudo]\ntimeout_s = 5.0\n", "sudo", "timeout_s", 5.0),
        ("[sudo]\nhost_paths = ['/data/x']\n", "sudo", "host_paths", ("/data/x",)),
        ("[limits]\nconnections = 1\negress_mb = 1\n", "limits", "egress_mb", 1),
        ("[sudo.limits]\nmemory_mb = 1000\n", "sudo", "limits", Ceilings(memory_mb=1000)),
    ],
)
def test_each_newer_setting_can_be_tightened(tightened, text, table, field, value):
    result = tightened(NARROW.model_copy(update=WIDE_TABLES), text)
    assert getattr(getattr(result.policy, table), field) == value
    assert result.ignored == ()


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[network]\nports = [8080]\n", "network.ports: 8080"),
        ("[network]\naddresses = ['127.0.0.0/8']\n", "network.addresses: 127.0.0.0/8"),
        ("[network]\nintercept = false\n", "network.intercept"),
        ("[network]\nca_file = '/evil.pem'\n", "network.ca_file"),
        ("[workspace]\nmode = 'bind'\n", "workspace.mode: bind"),
        ("[sudo]\nmay_ask = ['host_path']\n", "sudo.may_ask: host_path"),
        ("[sudo]\ntimeout_s = 101.0\n", "sudo.timeout_s: 101"),
        ("[sudo]\nhost_paths = ['/srv/ssh']\n", "sudo.host_paths: /srv/ssh"),
        ("[[secrets.bound]]\nname = 'T'\nhost = 'evil.test'\n", "secrets.bound"),
        ("[limits]\ningress_mb = 999999\n", "limits.ingress_mb: 999999"),
        ("[sudo.limits]\nmemory_mb = 2001\n", "sudo.limits.memory_mb: 2001"),
    ],
)
def test_no_newer_setting_can_be_loosened(tightened, text, key):
    base = NARROW.model_copy(update=WIDE_TABLES)
    result = tightened(base, text)
    assert result.ignored[0].startswith(key)
    allowed = {"network": {"ports": ()}, "sudo": {"host_paths": (), "may_ask": ()}}
    for table in WIDE_TABLES:
        for field, value in getattr(result.policy, table):
            ours = getattr(getattr(base, table), field)
            assert value == ours or set(value) < set(ours) or value == allowed.get(table, {}).get(field)


def test_a_required_runtime_is_not_given_up(tightened):
    base = NARROW.model_copy(update={"container": Container(runtime="runsc", require_runtime="runsc")})
    result = tightened(base, "[container]\nrequire_runtime = 'runc'\n")
    assert result.policy.container.require_runtime == "runsc"
    assert result.ignored == ("container.require_runtime: runc is looser than the policy in force",)


def test_a_projects_question_does_not_open_what_is_refused(tightened):
    text = "[[rules]]\nsyscall = '*'\naction = 'ask'\nreason = 'Please ask.'\n"
    closed = tightened(Policy(name="closed"), text).policy
    assert decide(closed, Request("read", path="/a")).action == "deny"
    assert decide_connection(closed, "a.test", 443).action == "deny"
    opened = tightened(load("strict"), text).policy
    assert decide(opened, Request("read", path="/a")).action == "ask"
    assert decide_connection(opened, "a.test", 443).action == "deny"


@pytest.mark.parametrize("table", ["limits", "network", "workspace", "container", "secrets"])
def test_the_loosest_project_changes_nothing_of_a_strict_policy(table):
    strict = load("strict")
    project = Policy.model_validate({"name": "project", table: getattr(WIDE, table).model_dump()})
    policy = tighten(strict, project).policy
    assert policy.container == strict.container
    assert policy.network == strict.network
    assert policy.secrets == strict.secrets
    assert policy.workspace.include == strict.workspace.include
    assert all(value <= getattr(strict.limits, name) for name, value in policy.limits if value is not None)
