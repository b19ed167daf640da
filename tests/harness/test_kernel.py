"""The loop, driven through the real table and scheduler: what is asked for, done, recorded and told."""

from __future__ import annotations

import asyncio
import json

import pytest
from kernel_double import NO, YES, MemoryJournal, Says, bash, calls, policy_with

from harness.errors import BudgetSpent, JournalError
from harness.events import BudgetChanged, CallIntent, CallOutput, CallStarted, MessageAdded, TextStreamed
from harness.messages import Message, Text, Usage
from harness.provider import ProviderError, Reply, TextDelta
from policies.schema import Rule, When
from sandbox.errors import SandboxGone


async def test_the_model_acts_and_its_last_words_end_the_turn(make_session):
    run = make_session([calls(bash("echo hello"), text="I look."), "All good."])
    ended = await run.turn("say hello")
    assert ended.status == "done"
    assert run.results[0].content == "hello\n[exit code 0]"
    assert [message.role for message in run.session.messages] == ["user", "assistant", "tool", "assistant"]


async def test_an_intent_is_recorded_before_and_an_outcome_after_each_call(make_session):
    run = make_session([calls(bash("echo 1"), bash("echo 2")), "done"])
    await run.turn()
    assert run.kinds() == [
        "message:user",
        "message:assistant",
        "intent:bash",
        "outcome:bash",
        "intent:bash",
        "outcome:bash",
        "message:assistant",
    ]


async def test_the_effect_begins_only_once_the_intent_is_recorded(make_session):
    seen = []

    async def look(process):
        seen.append([kind for kind in run.kinds() if kind.endswith("bash")])
        return 0

    run = make_session([calls(bash("look")), "done"], commands={"look": look})
    await run.turn()
    assert seen == [["intent:bash"]]


async def test_an_execution_id_is_recorded_and_the_sandbox_runs_under_it(make_session):
    run = make_session([calls(bash("true")), calls(bash("true")), "done"])
    await run.turn()
    ids = [entry.exec_id for entry in run.journal.entries if isinstance(entry, CallIntent)]
    assert len(set(ids)) == 2
    with pytest.raises(KeyError):
        # Known to the sandbox, and released once its outcome was recorded.
        await run.box.result(ids[0])
    assert set(ids) <= set(run.box._calls.by_id)


async def test_the_sandbox_keeps_a_result_until_it_is_recorded(make_session):
    journal = MemoryJournal(fails_at=3)
    run = make_session([calls(bash("echo precious")), "done"], journal=journal)
    with pytest.raises(JournalError):
        await run.turn()
    exec_id = next(entry.exec_id for entry in journal.entries if isinstance(entry, CallIntent))
    assert (await run.box.result(exec_id)).stdout == b"precious\n"


async def test_nothing_is_started_once_the_journal_fails(make_session):
    run = make_session(
        [calls(("write", {"path": "a", "content": "x"})), "done"], journal=MemoryJournal(fails_at=2)
    )
    with pytest.raises(JournalError):
        await run.turn()
    with pytest.raises(FileNotFoundError):
        await run.box.read_file("/workspace/a")


async def test_text_and_calls_are_told_while_they_happen(make_session):
    run = make_session([calls(bash("echo hi"), text="One moment."), "done"])
    await run.turn()
    told = [type(event) for event in run.events]
    assert TextStreamed in told
    assert "".join(event.text for event in run.events if isinstance(event, TextStreamed)) == "One moment.done"
    assert told.index(CallIntent) < told.index(CallStarted)
    assert BudgetChanged in told


async def test_the_output_of_a_running_command_is_told_when_somebody_watches(make_session):
    run = make_session([calls(bash("echo first; sleep 0.6")), "done"], watched=True)
    await run.turn()
    tails = [event.tail for event in run.events if isinstance(event, CallOutput)]
    assert tails[0] == "first\n"


async def test_refusals_are_data_and_the_session_goes_on(make_session):
    run = make_session(
        [
            calls(
                ("bsh", {"command": "ls"}),
                ("bash", {"cmd": "ls"}),
                ("bash", '{"command": "ls'),
                ("bash", "[1, 2]"),
                ("read", {"path": 5, "limit": "many"}),
            ),
            "done",
        ]
    )
    assert (await run.turn()).status == "done"
    unknown, misnamed, torn, array, mistyped = run.results
    assert unknown.error == "unknown_syscall"
    assert "`bash`" in unknown.content
    assert misnamed.error == "bad_arguments"
    assert "did you mean `command`?" in misnamed.content
    assert "command: is required" in misnamed.content
    assert torn.error == array.error == "malformed_json"
    assert "this is a list" in array.content
    assert mistyped.error == "bad_arguments"
    assert "- path:" in mistyped.content
    assert "- limit:" in mistyped.content


async def test_a_ten_megabyte_argument_is_refused_and_not_carried_along(make_session):
    run = make_session([calls(("write", {"path": "a", "content": "x" * (10 << 20)})), "done"])
    assert (await run.turn()).status == "done"
    assert run.results[0].error == "too_large"
    assert "at most 1,048,576" in run.results[0].content
    sent = sum(len(message.model_dump_json()) for message in run.session.messages)
    assert sent < 10_000
    assert sum(len(entry.model_dump_json()) for entry in run.journal.entries) < 20_000


async def test_many_large_calls_in_one_message_fit_into_a_line_of_the_journal(make_session):
    large = [("write", {"path": f"f{number}", "content": "x" * 1_000_000}) for number in range(40)]
    run = make_session([calls(*large), "done"], policy=policy_with(tokens=10**9))
    await run.turn()
    assert [result.error for result in run.results] == [None] * 4 + ["too_large"] * 36
    assert max(len(entry.model_dump_json()) for entry in run.journal.entries) < 6 << 20


async def test_a_result_fits_into_a_line_of_the_journal_whatever_the_policy_shows(make_session):
    run = make_session(
        [calls(bash("flood")), "done"], policy=policy_with(output_bytes=16 << 20), commands={"flood": flood}
    )
    await run.turn()
    content = run.results[0].content
    assert len(content) < (4 << 20) + 200
    assert "characters are left out here" in content
    assert content.endswith("[exit code 0]")


async def flood(process):
    for _ in range(10):
        await process.out("x" * (1 << 20))
    return 0


async def test_a_denied_call_reaches_the_model_as_a_reason_and_does_nothing(make_session):
    policy = policy_with(
        Rule(syscall="write", when=When(path="/workspace/locked/**"), action="deny", reason="Hands off.")
    )
    run = make_session(
        [calls(("write", {"path": "locked/../locked/a", "content": "x"})), "done"], policy=policy
    )
    await run.turn()
    assert run.results[0].error == "denied"
    assert "Hands off." in run.results[0].content
    assert run.kinds()[2:4] == ["intent:write", "outcome:write"]
    with pytest.raises(FileNotFoundError):
        await run.box.stat("/workspace/locked")


async def test_asking_means_no_where_nobody_answers(make_session):
    policy = policy_with(Rule(syscall="bash", action="ask", reason="You decide."))
    run = make_session([calls(bash("touch /workspace/a")), "done"], policy=policy)
    await run.turn()
    assert run.results[0].error == "no_approver"
    with pytest.raises(FileNotFoundError):
        await run.box.stat("/workspace/a")


@pytest.mark.parametrize(
    ("answer", "runs"), [(YES, True), (NO, False), (True, False), ("yes", False), (None, False)]
)
async def test_only_a_plain_yes_lets_an_asked_call_run(make_session, answer, runs):
    policy = policy_with(Rule(syscall="bash", action="ask", reason="You decide."))

    run = make_session([calls(bash("echo ran")), "done"], policy=policy, prompter=Says(answer))
    await run.turn()
    assert (run.results[0].error is None) is runs


async def test_relative_paths_after_a_cd_in_the_same_message_mean_the_new_directory(make_session):
    run = make_session(
        [calls(bash("cd sub"), ("read", {"path": "a.txt"})), "done"],
        files={"/workspace/a.txt": "outer", "/workspace/sub/a.txt": "inner"},
    )
    await run.turn()
    assert "inner" in run.results[1].content


async def test_a_call_is_decided_with_the_directory_it_will_run_in(make_session):
    locked = Rule(syscall="write", when=When(path="/workspace/locked/**"), action="deny", reason="Hands off.")
    run = make_session(
        [calls(bash("mkdir locked; cd locked"), ("write", {"path": "a", "content": "x"})), "done"],
        policy=policy_with(locked),
    )
    await run.turn()
    assert run.results[1].error == "denied"


async def test_more_calls_than_a_message_may_hold_are_refused_one_by_one(make_session):
    run = make_session([calls(*[("plan", {"steps": []})] * 66), "done"])
    await run.turn()
    assert [result.error for result in run.results] == [None] * 64 + ["busy"] * 2


@pytest.mark.parametrize(("stop", "reason"), [("length", "length"), ("refusal", "refused")])
async def test_an_answer_that_is_no_answer_fails_the_task(make_session, stop, reason):
    run = make_session([{"text": "I", "stop": stop}])
    ended = await run.turn()
    assert ended.status == "failed"
    assert reason in ended.reason


async def test_the_same_again_and_again_is_told_to_the_model_and_then_stopped(make_session):
    run = make_session([calls(bash("make")) for _ in range(9)])
    ended = await run.turn()
    assert ended.status == "failed"
    assert run.notices == ["loop", "loop"]
    said = [message.text for message in run.session.messages if message.role == "user"]
    assert "the same calls, the same results" in said[1]
    assert len(run.results) == 5


async def test_progress_is_no_repetition(make_session):
    replies = [calls(bash(f"echo {number}")) for number in range(12)]
    run = make_session([*replies, "done"])
    assert (await run.turn()).status == "done"
    assert run.notices == []


async def test_turns_are_bounded_and_the_last_calls_have_their_results(make_session):
    run = make_session([calls(bash(f"echo {n}")) for n in range(9)], policy=policy_with(turns=3))
    with pytest.raises(BudgetSpent, match="3 of 3 turns"):
        await run.turn()
    assert len(run.results) == 3
    assert run.notices == ["budget"]


async def test_tokens_are_bounded(make_session):
    run = make_session([calls(bash(f"echo {n}")) for n in range(9)], policy=policy_with(tokens=1))
    with pytest.raises(BudgetSpent, match=r"limits\.tokens"):
        await run.turn()


async def test_a_reply_without_a_price_ends_a_session_with_a_cost_limit(make_session):
    run = make_session(
        [calls(bash("true")), "done"], policy=policy_with(cost_usd=1.0), price=lambda usage: None
    )
    with pytest.raises(BudgetSpent, match="price is unknown"):
        await run.turn()


async def test_time_running_out_ends_the_running_call_and_keeps_its_output(make_session):
    run = make_session(
        [calls(bash("echo begun; sleep 60"), bash("echo never"))], policy=policy_with(session_s=0.5)
    )
    with pytest.raises(BudgetSpent, match="session_s"):
        await run.turn()
    first, second = run.results
    assert first.error == second.error == "cancelled"
    assert "begun" in first.content
    assert "nothing was run" in second.content
    assert not await run.box.jobs()
    assert run.notices == ["budget"]


async def test_a_dead_sandbox_is_not_the_models_failure_and_no_call_is_left_open(make_session):
    async def vanish(process):
        await asyncio.shield(asyncio.ensure_future(run.box.close()))
        return 0

    run = make_session(
        [calls(("read", {"path": "a"}), bash("vanish"), bash("echo after"), ("read", {"path": "b"}))],
        commands={"vanish": vanish},
    )
    with pytest.raises(SandboxGone):
        await run.turn()
    outcomes = [entry.result for entry in run.journal.entries if entry.kind == "call_outcome"]
    assert [result.error for result in outcomes] == ["not_found", *["sandbox_gone"] * 3]


class Flaky:
    """A model that breaks once in the middle of its words, and then answers."""

    name, model = "flaky", "flaky"

    def __init__(self, *faults: str) -> None:
        self.faults = list(faults)

    async def stream(self, request):
        yield TextDelta("half a ")
        if self.faults:
            raise ProviderError(self.faults.pop(0), "the stream broke", retry_after_s=0)
        yield Reply(Message(role="assistant", parts=(Text(text="half a word"),)), Usage(), "end", ("mended",))

    async def aclose(self):
        return None


@pytest.fixture
def no_waiting(monkeypatch):
    monkeypatch.setattr("harness.providers.retry._WaitAsAsked.__call__", lambda self, state: 0.0)


async def test_a_transient_fault_is_retried_and_recorded(make_session, no_waiting):
    run = make_session([], provider=Flaky("dropped"))
    assert (await run.turn()).status == "done"
    assert run.notices == ["retry", "repaired"]
    assert run.session.messages[-1].text == "half a word"


async def test_a_lasting_fault_is_the_providers(make_session):
    run = make_session([], provider=Flaky("auth"))
    with pytest.raises(ProviderError, match="broke"):
        await run.turn()


async def test_a_session_rebuilt_from_its_records_is_the_same_conversation(make_session):
    run = make_session([calls(bash("echo 1"), ("glob", {"pattern": "*"})), calls(bash("exit 3")), "done"])
    await run.turn()
    recorded = [entry.message for entry in run.journal.entries if isinstance(entry, MessageAdded)]
    assert recorded == [message for message in run.session.messages if message.role != "tool"]


async def test_the_prompt_and_the_tools_are_the_same_bytes_every_turn(make_session):
    requests = []

    run = make_session([calls(bash("true")), "done"])
    stream = run.kernel.provider.stream

    def listening(request):
        requests.append(request)
        return stream(request)

    run.kernel.provider.stream = listening
    await run.turn()
    prefixes = {
        request.system + json.dumps([tool.parameters for tool in request.tools]) for request in requests
    }
    assert len(requests) == 2
    assert len(prefixes) == 1
    assert requests[1].messages[: len(requests[0].messages)] == requests[0].messages
