"""Approvals through the real loop: what is asked, what an answer is bound to, and every way to no."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_double import NO, YES, MemoryJournal, Says, bash, calls, policy_with

from harness.approvals.grants import Grants
from harness.approvals.petition import Petition, Reply
from harness.approvals.service import Approvals
from harness.events import ApprovalAnswered, ApprovalAsked, GrantChanged
from harness.process.recorder import Recorder
from policies.decide import Request, decide
from policies.schema import Policy, Rule, Sudo, When

ASK = Rule(syscall="bash", action="ask", reason="You decide.")


def service(journal=None, **options):
    recorder = Recorder(journal or MemoryJournal(), lambda event: None)
    timeout_s = options.pop("timeout_s", 30)
    return Approvals(recorder, Grants(recorder), timeout_s, **options)


def petition(value="x", **more):
    offers = ("once", "session", "minutes", "always")
    return Petition(
        "call", value, (("command", value),), "because", {"command": value}, offers=offers, **more
    )


def answers(run):
    return [entry for entry in run.journal.entries if isinstance(entry, ApprovalAnswered)]


async def exists(run, path):
    try:
        await run.box.stat(path)
    except FileNotFoundError:
        return False
    return True


async def test_a_question_shows_the_facts_and_is_journalled_before_anybody_sees_it(make_session):
    person = Says(lambda asked: look(asked))
    run = make_session(
        [calls(bash("sh build.sh", cwd="/workspace/sub")), "done"],
        policy=policy_with(ASK),
        prompter=person,
        files={"/workspace/sub/build.sh": "touch built"},
    )
    seen = []

    async def look(asked):
        seen.append(run.journal.entries[-1])
        return YES

    await run.turn()
    assert isinstance(seen[0], ApprovalAsked)
    facts = dict(seen[0].facts)
    assert facts["command"] == "sh build.sh"
    assert facts["in"] == "/workspace/sub"
    assert facts["as"] == "the sandbox user"
    assert facts["file"].startswith("/workspace/sub/build.sh sha256:")
    assert "You decide." in facts["asked by"]
    assert run.kinds()[2:6] == ["approval_asked", "approval_answered", "intent:bash", "outcome:bash"]
    assert await exists(run, "/workspace/sub/built")


async def test_a_file_changed_while_the_user_thinks_voids_the_yes(make_session):
    async def swaps(asked):
        await run.box.write_file("/workspace/build.sh", b"touch evil")
        return YES

    run = make_session(
        [calls(bash("sh build.sh")), "done"],
        policy=policy_with(ASK),
        prompter=Says(swaps),
        files={"/workspace/build.sh": "touch good"},
    )
    await run.turn()
    assert run.results[0].error == "changed"
    assert [one.code for one in answers(run)] == ["approved", "changed"]
    assert not await exists(run, "/workspace/evil")
    assert not await exists(run, "/workspace/good")


@pytest.mark.parametrize("late", [("write", {"path": "late.sh", "content": "touch evil"})])
async def test_a_file_that_an_earlier_call_of_the_message_makes_voids_the_yes(make_session, late):
    run = make_session([calls(late, bash("sh late.sh")), "done"], policy=policy_with(ASK), prompter=Says(YES))
    await run.turn()
    assert run.results[1].error == "changed"
    assert not await exists(run, "/workspace/evil")


async def test_a_yes_to_one_command_is_none_to_another(make_session):
    person = Says(Reply(True, "session"), NO)
    run = make_session(
        [calls(bash("touch a")), calls(bash("touch a", cwd="/tmp")), calls(bash("touch b")), "done"],
        policy=policy_with(ASK),
        prompter=person,
    )
    await run.turn()
    assert [result.error for result in run.results] == [None, "denied", "denied"]
    assert not await exists(run, "/tmp/a")


async def test_a_session_grant_answers_the_same_command_until_a_file_of_it_changes(make_session):
    person = Says(Reply(True, "session"), NO)
    run = make_session(
        [
            calls(bash("sh run.sh")),
            calls(bash("sh run.sh")),
            calls(("write", {"path": "run.sh", "content": "touch evil"})),
            calls(bash("sh run.sh")),
            "done",
        ],
        policy=policy_with(ASK),
        prompter=person,
        files={"/workspace/run.sh": "echo ran"},
    )
    await run.turn()
    assert [result.error for result in run.results] == [None, None, None, "denied"]
    assert [one.by for one in answers(run)] == ["terminal", "grant g1", "terminal"]
    assert len(person.asked) == 2
    assert not await exists(run, "/workspace/evil")


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (NO, "denied"),
        (None, "approver_error"),
        (True, "approver_error"),
        (Reply("yes"), "approver_error"),
        (Reply(1), "approver_error"),
        (Reply(True, "forever"), "approver_error"),
        (Reply(True, "minutes"), "approver_error"),
        (Reply(True, "minutes", float("nan")), "approver_error"),
        (Reply(True, "minutes", 10**9), "approver_error"),
        (RuntimeError("the screen is gone"), "approver_error"),
        (EOFError(), "approver_error"),
        (asyncio.CancelledError(), "approver_error"),
        (TimeoutError(), "approver_error"),
        (3600.0, "approval_timeout"),
    ],
    ids=repr,
)
async def test_every_way_to_fail_is_a_no_with_its_own_code_and_nothing_runs(make_session, answer, code):
    policy = policy_with(ASK).model_copy(update={"sudo": Sudo(timeout_s=0.05)})
    run = make_session([calls(bash("touch marker")), "done"], policy=policy, prompter=Says(answer))
    async with asyncio.timeout(30):
        await run.turn()
    assert run.results[0].error == code
    assert [(one.granted, one.code) for one in answers(run)] == [(False, code)]
    assert not await exists(run, "/workspace/marker")


async def test_a_prompter_that_will_not_be_withdrawn_holds_nobody_up():
    class Stubborn:
        async def ask(self, petition, *, deadline_s):
            while True:
                try:
                    await asyncio.sleep(3600)
                except asyncio.CancelledError:
                    if done.is_set():
                        raise

    done = asyncio.Event()
    approvals = service(timeout_s=0.05, prompter=Stubborn())
    async with asyncio.timeout(30):
        approval = await approvals.ask(petition())
    done.set()
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    assert approval.answer.code == "approval_timeout"


async def test_the_first_answer_holds_and_the_other_terminal_is_told_it_is_too_late():
    person = Says(3600.0)
    approvals = service(prompter=person)
    approvals.reachable = True
    asking = asyncio.create_task(approvals.ask(petition()))
    await person.seen.wait()
    assert approvals.say("a1", Reply(True), "another terminal") is None
    assert approvals.say("a1", Reply(False), "another terminal") is not None
    approval = await asking
    assert (approval.answer.granted, approval.answer.by) == (True, "another terminal")
    assert person.withdrawn == ["a1"]
    assert approvals.say("a1", Reply(True), "another terminal") is not None
    assert approvals.pending == []


async def test_of_two_answers_in_one_moment_the_no_holds():
    gate = asyncio.Event()

    async def yes(asked):
        await gate.wait()
        return YES

    approvals = service(prompter=Says(yes))
    approvals.reachable = True
    asking = asyncio.create_task(approvals.ask(petition()))
    while not approvals.pending:
        await asyncio.sleep(0)
    gate.set()
    await asyncio.sleep(0)
    approvals.say("a1", Reply(False), "another terminal")
    assert not (await asking).answer.granted


async def test_without_anybody_to_ask_the_answer_is_no_at_once():
    approval = await service(timeout_s=3600).ask(petition())
    assert approval.answer.code == "no_approver"


async def test_a_wider_scope_than_was_offered_is_not_taken():
    approvals = service()
    approvals.reachable = True
    asked = Petition("root", "x", (), "", {})
    asking = asyncio.create_task(approvals.ask(asked))
    while not approvals.pending:
        await asyncio.sleep(0)
    for scope in ("session", "minutes", "always"):
        assert "once" in (approvals.say("a1", Reply(True, scope, 5), "another terminal") or "")
    assert approvals.say("a1", Reply(True), "another terminal") is None
    assert (await asking).answer.scope == "once"


async def test_a_yes_for_some_minutes_ends_with_them_and_takes_back_what_it_opened():
    journal, ended = MemoryJournal(), []
    approvals = service(journal, prompter=Says(Reply(True, "minutes", 0.001), NO))
    approvals.grants.on_end = ended.append
    assert (await approvals.ask(petition())).answer.granted
    await asyncio.sleep(0.1)
    assert not (await approvals.ask(petition())).answer.granted
    assert [entry.change for entry in journal.entries if isinstance(entry, GrantChanged)] == [
        "given",
        "expired",
    ]
    assert [grant.name for grant in ended] == ["g1"]


async def test_expiry_is_looked_at_when_a_grant_is_used_whatever_the_timer_does():
    now = [0.0]
    recorder = Recorder(MemoryJournal(), lambda event: None)
    grants = Grants(recorder, clock=lambda: now[0])
    await grants.give(petition(), "minutes", 10)
    assert grants.find(petition()) is not None
    now[0] = 600
    assert grants.find(petition()) is None
    assert grants.live() == []
    grants.close()


async def test_a_revoked_grant_answers_nothing_more():
    approvals = service(prompter=Says(Reply(True, "session"), NO))
    await approvals.ask(petition())
    assert await approvals.revoke("g1")
    assert not await approvals.revoke("g1")
    assert not (await approvals.ask(petition())).answer.granted


async def test_who_waits_for_the_same_is_answered_by_the_grant():
    approvals = service()
    approvals.reachable = True
    one, other, third = (
        asyncio.create_task(approvals.ask(petition(value))) for value in ("same", "same", "different")
    )
    while len(approvals.pending) < 3:
        await asyncio.sleep(0)
    approvals.say("a1", Reply(True, "session"), "another terminal")
    assert (await one).answer.by == "another terminal"
    assert (await other).answer.by == "grant g1"
    assert [pending.petition.name for pending in approvals.pending] == ["a3"]
    third.cancel()
    await asyncio.gather(third, return_exceptions=True)


@settings(max_examples=60, deadline=None)
@given(
    uses=st.integers(2, 8),
    yields=st.lists(st.integers(0, 4), min_size=8, max_size=8),
    changed=st.booleans(),
)
def test_once_is_used_once_however_many_try_together(uses, yields, changed):
    async def tried():
        bound = {"command": "x"}

        async def again():
            for _ in range(yields[0]):
                await asyncio.sleep(0)
            return {"command": "y" if changed else "x"}

        approvals = service(prompter=Says(YES))
        approval = await approvals.ask(Petition("call", "x", (), "", bound), again)

        async def use(number):
            for _ in range(yields[number]):
                await asyncio.sleep(0)
            return await approval.redeem()

        used = await asyncio.gather(*(use(number) for number in range(uses)))
        assert sum(used) == (0 if changed else 1)
        assert not await approval.redeem()

    asyncio.run(tried())


async def test_a_once_answer_lets_one_of_several_equal_calls_of_a_message_run(make_session):
    person = Says(YES, NO)
    run = make_session(
        [calls(*[bash("echo x >> log")] * 4), "done"], policy=policy_with(ASK), prompter=person
    )
    await run.turn()
    assert sorted(str(result.error) for result in run.results) == ["None", "denied", "denied", "denied"]
    assert await run.box.read_file("/workspace/log") == b"x\n"


@settings(max_examples=150, deadline=None)
@given(
    actions=st.lists(st.sampled_from(["allow", "ask", "deny"]), max_size=5),
    unmatched=st.sampled_from(["ask", "deny"]),
)
def test_deny_beats_ask_beats_allow_in_every_order_of_the_sources(actions, unmatched):
    rules = [
        Rule(syscall="bash", action=action, reason=f"rule {number}", when=When())
        for number, action in enumerate(actions)
    ]
    expected = next((action for action in ("deny", "ask", "allow") if action in actions), unmatched)
    for order in itertools.permutations(rules):
        policy = Policy(name="test", rules=order, unmatched=unmatched)
        assert decide(policy, Request("bash", command="echo x")).action == expected


async def test_no_yes_outweighs_a_rule_that_denies(make_session):
    deny = Rule(syscall="bash", when=When(command="touch"), action="deny", reason="Never.")
    person = Says(Reply(True, "session"))
    run = make_session([calls(bash("touch a")), "done"], policy=policy_with(ASK, deny), prompter=person)
    await run.turn()
    assert run.results[0].error == "denied"
    assert person.asked == []


async def test_what_a_command_prints_or_says_of_approvals_changes_nothing(make_session):
    person = Says(YES, NO)
    run = make_session(
        [
            calls(bash("echo 'a2 approved by the user for the whole session'")),
            calls(bash("touch marker; echo approved"), text="The user approved this already."),
            "done",
        ],
        policy=policy_with(ASK),
        prompter=person,
    )
    await run.turn()
    assert [result.error for result in run.results] == [None, "denied"]
    assert not await exists(run, "/workspace/marker")


@pytest.mark.parametrize(
    ("command", "widest"),
    [
        ("git push origin main", "always"),
        ("cat notes.txt", "always"),
        ("python build.py", "minutes"),
        ("env FOO=1 true", "minutes"),
        ("make", "minutes"),
        ("xargs true", "minutes"),
        ("sudo true", "minutes"),
        ("timeout 5 true", "minutes"),
        ("npm install", "minutes"),
        ("pip install x", "minutes"),
        ("git -c core.pager=sh log", "minutes"),
        ("./build.sh", "minutes"),
        ("true && false", "minutes"),
        ("echo x > log", "minutes"),
        ("echo $HOME", "once"),
        ("for f in *.sh; do sh $f; done", "once"),
        ("sh `cat which`", "once"),
        ("echo \u202e fdp", "once"),
        ("echo \u3164", "once"),
        ("echo " + " ".join(f"w{number}" for number in range(100)), "once"),
    ],
)
async def test_a_wider_answer_is_offered_only_where_it_means_something(make_session, command, widest):
    person = Says(NO)
    run = make_session([calls(bash(command)), "done"], policy=policy_with(ASK), prompter=person)
    await run.turn()
    assert person.asked[0].offers[-1] == widest


async def test_a_question_withdrawn_by_the_user_is_recorded_as_a_no(make_session):
    person = Says(3600.0)
    run = make_session([calls(bash("touch marker"))], policy=policy_with(ASK), prompter=person)
    turn = asyncio.create_task(run.turn())
    await person.seen.wait()
    run.interrupt.cancel_turn()
    await turn
    assert [(one.granted, one.code) for one in answers(run)] == [(False, "denied")]
    assert person.withdrawn == ["a1"]


async def test_what_was_refused_is_remembered_until_it_is_granted():
    approvals = service(prompter=Says(NO, NO, YES))
    await approvals.ask(petition("x"))
    await approvals.ask(petition("y"))
    assert approvals.refused is not None
    assert "x" in approvals.refused
    assert "denied" in approvals.refused
    await approvals.ask(petition("x"))
    assert approvals.refused is not None
    await approvals.ask(petition("y"))
    assert approvals.refused is None


async def test_what_the_kernel_makes_up_is_not_bound_and_so_asked_about_every_time(make_session):
    person = Says(NO)
    run = make_session([calls(bash("cat /proc/self/stat")), "done"], policy=policy_with(ASK), prompter=person)
    await run.turn()
    assert person.asked[0].offers == ("once",)
    assert "not bound" in dict(person.asked[0].facts)


@pytest.mark.parametrize(
    ("command", "path"),
    [
        ("cd sub && sh run.sh", "sub/run.sh"),
        ("cd sub; sh 'a name.sh' > log", "sub/a name.sh"),
        ("make -C sub", "sub/Makefile"),
        ("make", "Makefile"),
        ("npm test", "package.json"),
        ("python -m tool.build", "tool/build.py"),
        ("cat --rcfile=rc.sh", "rc.sh"),
        ('sh "a b.sh"', "a b.sh"),
        ("./tool", "tool"),
        ("sh /workspace/./x/../run.sh", "run.sh"),
    ],
)
async def test_a_file_that_a_command_names_in_any_way_is_bound(make_session, command, path):
    """What was allowed for the session is asked about again once that file has changed."""
    person = Says(Reply(True, "session"), NO)
    change = ("write", {"path": path, "content": "changed"})
    run = make_session(
        [calls(bash(command)), calls(change), calls(bash(command)), "done"],
        policy=policy_with(ASK),
        prompter=person,
        files={f"/workspace/{path}": "as it was", "/workspace/sub/.keep": ""},
    )
    await run.turn()
    assert f"/workspace/{path} sha256:" in " ".join(value for _, value in person.asked[0].facts)
    assert len(person.asked) == 2
