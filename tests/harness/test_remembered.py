"""Answers for good: for the very same thing under the very same policy, and never for what has no meaning."""

from __future__ import annotations

import asyncio
import json
import stat

import pytest
from boot_double import Started
from kernel_double import NO, Says, bash, calls
from test_control import usermode

from harness.approvals.petition import Petition, Reply, network_petition
from harness.approvals.remembered import FILE, Remembered, read
from harness.events import ApprovalAnswered, GrantChanged
from policies import PolicyError, load
from policies.schema import Limits, Rule, When
from sandbox.egress import Gate
from sandbox.memory import MemorySandbox

ASK = Rule(syscall="bash", action="ask", reason="You decide.")
ALWAYS = Reply(True, "always")


@pytest.fixture
def started(tmp_path):
    return Started(tmp_path)


@pytest.fixture(autouse=True)
def fresh_boxes(started, monkeypatch):
    """Every session gets a sandbox of its own."""
    plain = started.machine.open

    def open_(spec):
        if started.machine.box._closed:
            started.machine.box = MemorySandbox(files={"/workspace/.keep": ""})
        return plain(spec)

    monkeypatch.setattr(started.machine, "open", open_)


def asking(*rules):
    policy = load("strict")
    return policy.model_copy(update={"rules": (ASK, *rules, *policy.rules)})


def given(started):
    return [(entry.granted, entry.by) for entry in started.journal if isinstance(entry, ApprovalAnswered)]


async def test_an_answer_for_good_holds_in_the_next_session_for_the_very_same_command(started):
    started.says(calls(bash("true")), "Done.")
    await started.run(policy=asking(), prompter=Says(ALWAYS))
    started.says(calls(bash("true")), calls(bash("true again")), "Done.")
    person = Says(NO)
    await started.run(policy=asking(), prompter=person)
    assert given(started) == [(True, "grant g1"), (False, "terminal")]
    assert [dict(asked.facts)["command"] for asked in person.asked] == ["true again"]


async def test_an_answer_for_good_does_not_hold_once_a_named_file_has_changed(started):
    started.says(calls(bash("cat list.txt")), "Done.")
    answered = []
    for content in ("old", "old", "new"):
        started.machine.box = MemorySandbox(files={"/workspace/list.txt": content})
        person = Says(ALWAYS)
        await started.run(policy=asking(), prompter=person)
        answered.append(len(person.asked))
    assert answered == [1, 0, 1]


async def test_an_answer_for_good_is_for_the_policy_it_was_given_under(started):
    started.says(calls(bash("true")), "Done.")
    await started.run(policy=asking(), prompter=Says(ALWAYS))
    other = asking(Rule(syscall="read", when=When(path="/x"), action="deny", reason="Another policy."))
    await started.run(policy=other, prompter=Says(NO))
    assert given(started) == [(False, "terminal")]
    fewer = asking().model_copy(update={"limits": Limits(turns=7)})
    await started.run(policy=fewer, prompter=Says(NO))
    assert given(started) == [(True, "grant g1")]


async def test_a_host_allowed_for_good_is_open_from_the_start_of_the_next_session(started, monkeypatch):
    opened = []
    monkeypatch.setattr(Gate, "grant", lambda gate, host, port, once=False: opened.append((host, port, once)))
    started.home.mkdir(mode=0o700)
    Remembered(started.home, load("strict")).keep(network_petition("example.org", 443, ""))
    started.says("Done.")
    await started.run()
    assert opened == [("example.org", 443, False)]
    [grant] = [entry for entry in started.journal if isinstance(entry, GrantChanged)]
    assert (grant.what, grant.scope, grant.change) == ("example.org:443", "always", "given")
    opened.clear()
    await started.run(policy=load("dev"))
    assert opened == []


async def test_a_rule_that_denies_still_denies_what_was_answered_for_good(started):
    deny = Rule(syscall="bash", when=When(command="true"), action="deny", reason="Never.")
    policy = asking(deny)
    petition = Petition("call", "true", (), "", {"command": "true"})
    started.home.mkdir(mode=0o700)
    Remembered(started.home, policy).keep(petition)
    started.says(calls(bash("true")), "Done.")
    await started.run(policy=policy, prompter=Says(NO))
    outcome = next(entry for entry in started.journal if entry.kind == "call_outcome")
    assert outcome.result.error == "denied"
    assert given(started) == []


async def test_what_was_answered_for_good_is_listed_and_revoked_and_then_asked_again(started):
    started.says(calls(bash("true")), "Done.")
    await started.run(policy=asking(), prompter=Says(ALWAYS))
    code, out, _ = await usermode(started, "grants")
    assert code == 0
    assert "always, under strict" in out
    name = read(started.home)[0].binding[:12]
    assert (await usermode(started, "revoke", "always", name))[0] == 0
    assert read(started.home) == []
    assert (await usermode(started, "revoke", "always", name))[0] == 2
    await started.run(policy=asking(), prompter=Says(NO))
    assert given(started) == [(False, "terminal")]


def test_the_file_is_private_and_two_writers_lose_nothing(tmp_path):
    memory = Remembered(tmp_path, load("dev"))

    async def together():
        await asyncio.gather(
            *(
                asyncio.to_thread(memory.keep, network_petition(f"h{number}.example", 443, ""))
                for number in range(20)
            )
        )

    asyncio.run(together())
    assert len(read(tmp_path)) == 20
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    memory.keep(network_petition("h1.example", 443, ""))
    assert len(read(tmp_path)) == 20


GOOD = {
    "policy": "x",
    "policy_digest": "0" * 64,
    "kind": "network",
    "subject": "a.example:443",
    "bound": {"host": "a.example", "port": 443},
    "given": "now",
}
COMMAND = {**GOOD, "kind": "call"}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "null",
        "[]",
        "{}",
        '{"version": 1, "grants": [',
        '{"version": 2, "grants": []}',
        '{"version": 1, "grants": [], "more": 1}',
        '{"version": 1, "grants": {"__class__": 1}}',
        *[
            json.dumps({"version": 1, "grants": [grant]})
            for grant in (
                {**GOOD, "kind": "root"},
                {**GOOD, "kind": "secret"},
                {**GOOD, "bound": {"host": "*.example", "port": 443}},
                {**GOOD, "bound": {"host": "a.example", "port": "443"}},
                {**GOOD, "bound": {"host": "a.example", "port": True}},
                {**GOOD, "bound": {"host": "evil.example", "port": 443}},
                {**GOOD, "bound": {**GOOD["bound"], "more": 1}},
                {**GOOD, "more": 1},
                *(
                    {**COMMAND, "subject": text, "bound": {"command": text}}
                    for text in (
                        "python x.py",
                        "sh -c id",
                        "env true",
                        "make",
                        "./x",
                        "a && b",
                        "git -c a=b log",
                    )
                ),
                {**COMMAND, "subject": "true", "bound": {"command": "python x.py"}},
                {**COMMAND, "subject": "true", "bound": {"command": "ls"}},
            )
        ],
    ],
)
async def test_a_file_that_is_not_what_we_write_starts_nothing(started, content):
    started.says("Done.")
    started.home.mkdir(mode=0o700)
    (started.home / FILE).write_text(content)
    with pytest.raises(PolicyError, match=FILE):
        await started.run()
    assert started.sessions == []


async def test_a_link_in_place_of_the_file_is_not_followed(started, tmp_path):
    started.says("Done.")
    started.home.mkdir(mode=0o700)
    (tmp_path / "elsewhere").write_text('{"version": 1, "grants": []}')
    (started.home / FILE).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PolicyError):
        await started.run()
