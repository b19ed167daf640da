"""`sudo` through the real loop: what may be asked, what the user sees, and what exactly a yes does."""

from __future__ import annotations

import asyncio
import os

import pytest
from kernel_double import NO, YES, Says, bash, calls, policy_with

from harness.approvals.petition import Reply
from harness.boot.egress import can_open, opens
from harness.events import ApprovalAnswered, ApprovalAsked
from harness.syscalls.host_path import take
from policies import load
from policies.schema import Ceilings, Container, Limits, Network, Policy, Rule, Secret, Secrets, Sudo, When
from sandbox.errors import SandboxRefused
from sandbox.memory import MemorySandbox

SECRET = Secret(name="TOKEN", host="api.example.org", ask=True)


class Outlet:
    """A way out that keeps what was done to it."""

    def __init__(self):
        self.done = []

    def grant(self, host, port, *, once=False):
        self.done.append(("grant", host, port, once))

    def revoke(self, host, port):
        self.done.append(("revoke", host, port))

    def release_secret(self, name):
        self.done.append(("release", name))

    def withhold_secret(self, name):
        self.done.append(("withhold", name))

    def allow_bytes(self, egress_mb):
        self.done.append(("bytes", egress_mb))


def sudo(**asked):
    return "sudo", {"reason": "It is needed.", **asked}


@pytest.fixture
def asking(make_session):
    """A session with a person and a way out, its grants wired to it as boot does."""

    def make(*replies, says=(YES,), policy=None, **options):
        outlet = Outlet()
        run = make_session(
            [*replies, "done"],
            policy=policy or policy_with(),
            prompter=Says(*says),
            outlet=outlet,
            **options,
        )
        grants = run.kernel.devices.approvals.grants
        grants.on_given, grants.on_end = opens(outlet)
        return run, outlet, run.kernel.devices.approvals._prompter

    return make


def policy(**tables):
    return policy_with().model_copy(update=tables)


async def test_a_host_is_opened_for_the_next_command_by_a_yes_for_once(asking):
    run, outlet, person = asking(calls(sudo(network="Example.ORG.:443")))
    await run.turn()
    assert run.results[0].error is None
    assert outlet.done == [("grant", "example.org", 443, True)]
    asked = person.asked[0]
    assert asked.facts[:2] == (("host", "example.org"), ("port", "443"))
    assert asked.said == "It is needed."
    assert run.kinds()[2:6] == ["intent:sudo", "approval_asked", "approval_answered", "outcome:sudo"]


async def test_a_host_for_the_session_is_a_grant_that_can_be_revoked(asking):
    run, outlet, _ = asking(calls(sudo(network="example.org:443")), says=(Reply(True, "session"),))
    await run.turn()
    assert outlet.done == [("grant", "example.org", 443, False)]
    await run.kernel.devices.approvals.revoke("g1")
    assert outlet.done[1:] == [("revoke", "example.org", 443)]


async def test_a_no_opens_nothing_and_the_reason_of_the_model_is_not_among_the_facts(asking):
    run, outlet, person = asking(
        calls(("sudo", {"reason": "The user approved this already.", "network": "example.org:443"})),
        says=(NO,),
    )
    await run.turn()
    assert run.results[0].error == "denied"
    assert outlet.done == []
    assert not any("approved" in value for _, value in person.asked[0].facts)


async def test_two_hosts_asked_for_together_are_two_questions(asking):
    run, outlet, person = asking(
        calls(sudo(network="a.example.org:443"), sudo(network="b.example.org:443")), says=(YES, NO)
    )
    await run.turn()
    assert [dict(one.facts)["host"] for one in person.asked] == ["a.example.org", "b.example.org"]
    assert outlet.done == [("grant", "a.example.org", 443, True)]


@pytest.mark.parametrize(
    "said",
    ["example.org", ":443", "example.org:0", "ex ample.org:443", "a\0b:443", "*.example.org:443", "@pip"],
)
async def test_a_host_without_a_clear_reading_is_no_question(asking, said):
    run, outlet, person = asking(calls(sudo(network=said)))
    await run.turn()
    assert run.results[0].error == "bad_arguments"
    assert (person.asked, outlet.done) == ([], [])


async def test_what_a_rule_denies_is_not_asked_about(asking):
    deny = Rule(syscall="network", when=When(host="*.example.org"), action="deny", reason="Never there.")
    run, outlet, person = asking(calls(sudo(network="a.example.org:443")), policy=policy_with(deny))
    await run.turn()
    assert run.results[0].error == "denied"
    assert "Never there." in run.results[0].content
    assert (person.asked, outlet.done) == ([], [])


async def test_what_is_allowed_already_is_not_asked_about(asking):
    run, outlet, person = asking(
        calls(sudo(network="example.org:443")), policy=policy(network=Network(allow=("example.org",)))
    )
    await run.turn()
    assert "allowed already" in run.results[0].content
    assert (person.asked, outlet.done) == ([], [])


ASKED = [
    ("network", {"network": "example.org:443"}),
    ("root", {"root": {"command": "touch /marker"}}),
    ("secret", {"secret": "TOKEN"}),
    ("host_path", {"host_path": "/etc/hostname"}),
    ("limits", {"limits": {"turns": 1000}}),
]


@pytest.mark.parametrize(("kind", "asked"), ASKED)
async def test_what_the_policy_does_not_name_cannot_be_asked_for(asking, kind, asked):
    others = tuple(other for other, _ in ASKED if other != kind)
    run, outlet, person = asking(calls(sudo(**asked)), policy=policy(sudo=Sudo(may_ask=others)))
    await run.turn()
    assert run.results[0].error == "denied"
    assert "sudo.may_ask" in run.results[0].content
    assert (person.asked, outlet.done) == ([], [])
    assert run.kernel.devices.approvals.refused is None


@pytest.mark.parametrize(("kind", "asked"), ASKED)
async def test_a_rule_that_denies_sudo_denies_every_kind_of_it(asking, kind, asked):
    deny = Rule(syscall="sudo", action="deny", reason="Not here.")
    run, outlet, person = asking(calls(sudo(**asked)), policy=policy_with(deny))
    await run.turn()
    assert run.results[0].error == "denied"
    assert "Not here." in run.results[0].content
    assert (person.asked, outlet.done) == ([], [])


@pytest.mark.parametrize(
    "arguments",
    [
        {"reason": "x"},
        {"network": "example.org:443"},
        {"reason": "", "network": "example.org:443"},
        {"reason": "x" * 1001, "network": "example.org:443"},
        {"reason": "x", "network": "example.org:443", "secret": "TOKEN"},
        {"reason": "x", "network": "example.org:443", "to": "/tmp/x"},
        {"reason": "x", "policy": "off"},
        {"reason": "x", "root": {"command": "id", "user": "0"}},
        {"reason": "x", "root": "id"},
        {"reason": "x", "limits": {"turns": "many"}},
    ],
)
async def test_exactly_one_thing_is_asked_for_with_a_reason(asking, arguments):
    run, outlet, person = asking(calls(("sudo", arguments)))
    await run.turn()
    assert run.results[0].error == "bad_arguments"
    assert (person.asked, outlet.done) == ([], [])


async def test_an_ask_rule_adds_no_second_question_to_sudo(asking):
    ask = Rule(syscall="*", action="ask", reason="Everything.")
    run, _, person = asking(calls(sudo(network="example.org:443")), policy=policy_with(ask))
    await run.turn()
    assert len(person.asked) == 1


async def test_a_root_command_runs_once_as_root_with_what_was_shown(asking):
    run, _, person = asking(
        calls(sudo(root={"command": "sh install.sh", "cwd": "/workspace/sub"})),
        policy=policy(container=Container(capabilities=("CHOWN",))),
        files={"/workspace/sub/install.sh": "id -u; pwd"},
    )
    ran = []
    plain = run.box.run

    async def noted(command):
        if command.user is not None:
            ran.append(command)
        return await plain(command)

    run.box.run = noted
    await run.turn()
    facts = dict(person.asked[0].facts)
    assert (facts["command"], facts["in"], facts["as"]) == ("sh install.sh", "/workspace/sub", "root")
    assert facts["capabilities"] == "CHOWN"
    assert facts["file"].startswith("/workspace/sub/install.sh sha256:")
    assert "always" not in person.asked[0].offers
    assert [(one.user, one.argv[-1], one.cwd) for one in ran] == [("root", "sh install.sh", "/workspace/sub")]


async def test_a_root_command_whose_script_changed_does_not_run(asking):
    async def swaps(asked):
        await run.box.write_file("/workspace/install.sh", b"touch /workspace/evil")
        return YES

    run, _, _ = asking(
        calls(sudo(root={"command": "sh install.sh"})),
        says=(swaps,),
        files={"/workspace/install.sh": "touch /workspace/good"},
    )
    await run.turn()
    assert run.results[0].error == "changed"
    for name in ("evil", "good"):
        with pytest.raises(FileNotFoundError):
            await run.box.stat(f"/workspace/{name}")


async def test_a_secret_is_released_and_withheld_with_its_grant(asking):
    run, outlet, person = asking(
        calls(sudo(secret="TOKEN")),
        says=(Reply(True, "session"),),
        policy=policy(secrets=Secrets(bound=(SECRET,)), network=Network(intercept=True)),
    )
    await run.turn()
    assert dict(person.asked[0].facts)["sent to"] == "api.example.org"
    assert outlet.done == [("release", "TOKEN")]
    await run.kernel.devices.approvals.revoke("g1")
    assert outlet.done[1:] == [("withhold", "TOKEN")]


async def test_an_unknown_secret_is_no_question(asking):
    run, outlet, person = asking(calls(sudo(secret="HOME")), policy=policy(secrets=Secrets(bound=(SECRET,))))
    await run.turn()
    assert run.results[0].error == "not_found"
    assert (person.asked, outlet.done) == ([], [])


async def test_limits_rise_at_once_and_only_in_this_session(asking):
    given = policy_with(turns=3, command_s=5)
    run, outlet, person = asking(
        calls(sudo(limits={"turns": 6, "command_s": 50, "egress_mb": 1000})),
        *[calls(bash(f"echo {number}")) for number in range(4)],
        policy=given,
    )
    await run.turn()
    assert run.results[0].error is None
    assert dict(person.asked[0].facts)["turns"] == "3 now, 6 then"
    assert run.session.budget.turns == 6
    assert run.session.limits.command_s == 50
    assert outlet.done == [("bytes", 1000)]
    assert given.limits.turns == 3


async def test_more_time_is_given_to_a_session_that_runs(asking):
    run, _, _ = asking(
        calls(sudo(limits={"session_s": 60})),
        calls(bash("sleep 0.5; echo late")),
        policy=policy_with(session_s=0.4),
    )
    assert (await run.turn()).status == "done"
    assert "late" in run.results[1].content


@pytest.mark.parametrize(
    "limits",
    [
        {},
        {"turns": 1},
        {"memory_mb": 2048},
        {"memory_mb": 4096.5},
        {"pids": 100_000},
        {"workspace_mb": 100_000},
        {"open_files": 60_000},
        {"cost_usd": 5},
        {"turns": 10**15},
        {"__class__": 5},
    ],
)
async def test_a_limit_that_cannot_rise_is_no_question(asking, limits):
    run, _, person = asking(calls(sudo(limits=limits)))
    await run.turn()
    assert run.results[0].error == "bad_arguments"
    assert person.asked == []
    assert run.session.limits is None


async def test_the_container_is_given_what_was_said_yes_to_and_nothing_else(asking):
    run, _, person = asking(
        calls(sudo(limits={"memory_mb": 4096, "pids": 600})),
        policy=policy_with(memory_mb=300, pids=64, cpus=1),
    )
    held = []

    async def adjust(limits):
        held.append((limits.memory_mb, limits.pids, limits.cpus))

    run.box.adjust = adjust
    await run.turn()
    assert dict(person.asked[0].facts) == {"memory_mb": "300 now, 4,096 then", "pids": "64 now, 600 then"}
    assert person.asked[0].bound == {"limits": {"memory_mb": 4096, "pids": 600}}
    assert held == [(4096, 600, 1)]
    assert (run.session.limits.memory_mb, run.session.limits.pids) == (4096, 600)
    assert run.kinds()[2:6] == ["intent:sudo", "approval_asked", "approval_answered", "outcome:sudo"]


async def test_a_no_leaves_the_container_as_it_is(asking):
    run, _, _ = asking(calls(sudo(limits={"memory_mb": 4096})), says=(NO,))
    await run.turn()
    assert run.results[0].error == "denied"
    assert (run.box.limits, run.session.limits) == (run.box.policy.limits, None)


async def test_what_the_engine_does_not_take_is_not_given(asking):
    run, _, _ = asking(calls(sudo(limits={"memory_mb": 4096, "turns": 900})), calls(bash("echo on")))

    async def adjust(limits):
        raise SandboxRefused("the engine refused the container: no")

    run.box.adjust = adjust
    await run.turn()
    assert run.results[0].error == "failed"
    assert "nothing has changed" in run.results[0].content
    assert (run.results[1].error, run.session.limits) == (None, None)


async def test_on_gvisor_the_containers_own_limits_are_refused_by_name(asking, monkeypatch):
    monkeypatch.setattr(MemorySandbox, "adjustable", frozenset())
    run, _, person = asking(calls(sudo(limits={"turns": 900, "memory_mb": 4096})))
    await run.turn()
    assert run.results[0].error == "bad_arguments"
    assert "memory_mb" in run.results[0].content
    assert "gVisor" in run.results[0].content
    assert (person.asked, run.session.limits) == ([], None)


async def test_no_more_is_asked_for_than_the_policy_lets(asking):
    ceilings = Sudo(limits=Ceilings(memory_mb=4096, turns=300))
    run, _, person = asking(
        calls(
            sudo(limits={"memory_mb": 4097}), sudo(limits={"turns": 301}), sudo(limits={"memory_mb": 4096})
        ),
        policy=policy(sudo=ceilings),
    )
    await run.turn()
    assert [result.error for result in run.results] == ["denied", "denied", None]
    assert "sudo.limits" in run.results[0].content
    assert len(person.asked) == 1


@pytest.fixture
def host(tmp_path):
    """A directory of the user's machine that may be asked for, and things beside it."""
    shared = tmp_path / "shared"
    (shared / "sub").mkdir(parents=True)
    (shared / "data.csv").write_text("a,b\n")
    (shared / "sub" / "more.txt").write_text("more\n")
    (shared / ".env").write_text("KEY=canary\n")
    (shared / "id_rsa").write_text("canary\n")
    (shared / "odd.txt").write_text("-----BEGIN RSA PRIVATE KEY-----\ncanary\n")
    (shared / "sub" / "link").symlink_to("/etc/passwd")
    (tmp_path / "private.txt").write_text("canary\n")
    (shared / "out").symlink_to(tmp_path / "private.txt")
    os.mkfifo(shared / "pipe")
    return shared


def may_read(host):
    return policy(sudo=Sudo(host_paths=(f"{host}/**",)))


async def test_a_host_directory_goes_in_as_it_was_shown_without_secrets_or_links(asking, host):
    run, _, person = asking(calls(sudo(host_path=str(host), to="/workspace/in")), policy=may_read(host))
    await run.turn()
    assert run.results[0].error is None
    assert await run.box.read_file("/workspace/in/data.csv") == b"a,b\n"
    assert await run.box.read_file("/workspace/in/sub/more.txt") == b"more\n"
    assert sorted(entry.path for entry in await run.box.list_dir("/workspace/in")) == [
        "/workspace/in/data.csv",
        "/workspace/in/sub",
    ]
    left_out = [value for label, value in person.asked[0].facts if label == "left out"]
    assert {line.split(":")[0] for line in left_out} == {
        ".env",
        "id_rsa",
        "odd.txt",
        "out",
        "pipe",
        "sub/link",
    }
    assert person.asked[0].offers == ("once",)


async def test_what_changes_on_the_host_after_the_question_does_not_go_in(asking, host):
    async def swaps(asked):
        (host / "data.csv").write_text("changed\n")
        return YES

    run, _, _ = asking(calls(sudo(host_path=f"{host}/data.csv")), policy=may_read(host), says=(swaps,))
    await run.turn()
    assert await run.box.read_file("/workspace/data.csv") == b"a,b\n"


@pytest.mark.parametrize(
    "asked",
    [
        "{host}/out",
        "{host}/../private.txt",
        "{host}/.env",
        "{host}/id_rsa",
        "{host}/odd.txt",
        "{host}/pipe",
        "{host}/missing",
        "/etc/passwd",
        "/proc/self/environ",
        "shared/data.csv",
        "~/.ssh/id_rsa",
        "/",
    ],
)
async def test_a_path_outside_or_a_secret_never_goes_in_and_is_not_asked_about(asking, host, asked):
    run, _, person = asking(calls(sudo(host_path=asked.format(host=host))), policy=may_read(host))
    await run.turn()
    assert run.results[0].error in ("denied", "not_found", "bad_arguments", "failed")
    assert person.asked == []
    assert [entry.path for entry in await run.box.list_dir("/workspace")] == ["/workspace/.keep"]


async def test_a_refused_host_path_does_not_tell_whether_it_exists(asking, host):
    run, _, _ = asking(
        calls(sudo(host_path="/etc/passwd")),
        calls(sudo(host_path="/etc/no-such-thing")),
        policy=may_read(host),
    )
    await run.turn()
    one, other = (result.content for result in run.results)
    assert one.replace("/etc/passwd", "X") == other.replace("/etc/no-such-thing", "X")


async def test_nothing_is_overwritten_by_a_host_path(asking, host):
    run, _, _ = asking(
        calls(sudo(host_path=f"{host}/data.csv")),
        policy=may_read(host),
        files={"/workspace/data.csv": "mine"},
    )
    await run.turn()
    assert run.results[0].error == "conflict"
    assert await run.box.read_file("/workspace/data.csv") == b"mine"


@pytest.mark.parametrize("to", ["/etc/x", "/workspace", "/workspace/../etc/x", "/home/x"])
async def test_a_host_path_is_put_only_where_the_session_works(asking, host, to):
    run, _, person = asking(calls(sudo(host_path=f"{host}/data.csv", to=to)), policy=may_read(host))
    await run.turn()
    assert run.results[0].error == "bad_arguments"
    assert person.asked == []


@pytest.mark.parametrize(("bound", "value"), [("MAX_FILES", 1), ("MAX_BYTES", 5), ("MAX_LOOKED_AT", 3)])
async def test_more_than_is_carried_is_no_question(asking, host, monkeypatch, bound, value):
    monkeypatch.setattr(f"harness.syscalls.host_path.{bound}", value)
    run, _, person = asking(calls(sudo(host_path=str(host))), policy=may_read(host))
    await run.turn()
    assert run.results[0].error == "too_large"
    assert person.asked == []


def test_the_sessions_own_records_are_never_given(tmp_path):
    home = tmp_path / "state"
    (home / "sessions").mkdir(parents=True)
    (home / "sessions" / "journal.jsonl").write_text("canary")
    (tmp_path / "other").write_text("fine")
    taken = take(str(tmp_path), (f"{tmp_path}/**",), (home,))
    assert list(taken.files) == ["other"]


async def test_two_questions_of_one_message_wait_side_by_side(asking):
    run, outlet, _ = asking(
        calls(sudo(limits={"turns": 1000}), sudo(network="example.org:443")), says=(0.3, NO)
    )
    run.kernel.devices.approvals._timeout_s = 0.2
    async with asyncio.timeout(30):
        await run.turn()
    assert {result.error for result in run.results} == {"approval_timeout", "denied"}
    asked = [entry for entry in run.journal.entries if isinstance(entry, ApprovalAsked)]
    answered = [entry for entry in run.journal.entries if isinstance(entry, ApprovalAnswered)]
    assert len(asked) == len(answered) == 2
    assert outlet.done == []


@pytest.mark.parametrize(
    ("policy", "open_"),
    [
        (load("offline"), False),
        (load("eval"), False),
        (load("strict"), True),
        (load("dev"), True),
        (Policy(name="x", sudo=Sudo(may_ask=())), False),
        (Policy(name="x", sudo=Sudo(may_ask=()), network=Network(allow=("example.org",))), True),
        (Policy(name="x", sudo=Sudo(may_ask=()), limits=Limits()), False),
    ],
)
def test_a_session_that_may_reach_nothing_gets_no_way_out_at_all(policy, open_):
    assert can_open(policy) is open_


async def test_a_secret_whose_value_could_not_be_put_in_place_is_no_question(asking):
    run, outlet, person = asking(calls(sudo(secret="TOKEN")), policy=policy(secrets=Secrets(bound=(SECRET,))))
    await run.turn()
    assert run.results[0].error == "denied"
    assert "network.intercept" in run.results[0].content
    assert (person.asked, outlet.done) == ([], [])
