"""What a session knows beside its words, folded from its journal: each fact by itself."""

from __future__ import annotations

from dataclasses import asdict
from types import SimpleNamespace

import pytest
from journal_double import first_entry

from harness.errors import JournalError
from harness.events import CallIntent, CallOutcome, ChildStarted, ForkedFrom, MessageAdded, TurnDone
from harness.messages import Call, Message, Result, Usage
from harness.process.traffic import Traffic
from harness.recovery.rebuild import Rebuilder

SPENT = {
    "turns": 3,
    "usage": Usage(input_tokens=50).model_dump(),
    "cost_usd": 0.5,
    "bytes_out": 7,
    "bytes_in": 9,
}


def rebuilt(*entries, **first):
    told = Rebuilder()
    for seq, entry in enumerate((first_entry("s", **first), *entries), 1):
        told.feed(SimpleNamespace(seq=seq, ts=f"2026-01-01T00:00:{seq:02}.000000Z", entry=entry))
    return told.rebuilt()


def asked(*calls):
    return MessageAdded(message=Message(role="assistant", parts=calls))


def intent(call, number):
    return CallIntent(call=call, exec_id=f"{(1 << 32) + number:016x}", decision="allow")


def came(call, error=None, **details):
    result = Result(call_id=call.id, name=call.name, content="", error=error)
    return CallOutcome(result=result, duration_s=0.1, details=details)


def made(number, name="bash", error=None, arguments=None, **details):
    """A call from its message to its outcome."""
    call = Call(id=f"c{number}", name=name, arguments=arguments or {"command": "x"})
    return asked(call), intent(call, number), came(call, error, **details)


def test_no_number_of_a_call_comes_twice_whatever_order_they_were_announced_in():
    one, two = (Call(id=name, name="read", arguments={"path": name}) for name in "ab")
    session = rebuilt(asked(one, two), intent(two, 2), intent(one, 1), came(one), came(two)).session
    assert session.next_exec_id() == f"{(1 << 32) + 3:016x}"


def test_a_directory_that_was_gone_is_left_for_the_workspace_as_the_model_was_told():
    moved = made(1, cwd="/workspace/deep")
    assert rebuilt(*moved).session.cwd == "/workspace/deep"
    assert rebuilt(*moved, *made(2, error="not_found")).session.cwd == "/workspace"
    elsewhere = {"command": "x", "cwd": "/nowhere"}
    stays = made(2, error="not_found", arguments=elsewhere)
    assert rebuilt(*moved, *stays).session.cwd == "/workspace/deep"


@pytest.mark.parametrize("background", [False, True])
def test_a_job_takes_input_if_it_was_started_for_that_and_what_was_shown_of_it_is_not_shown_again(background):
    arguments = {"command": "serve", "background": background}
    began = made(1, arguments=arguments, running=True, seen={"stdout": 5, "stderr": 0})
    polled = made(2, "job", arguments={"action": "poll", "job": "job-1"}, job="job-1", running=True,
                  seen={"stdout": 8, "stderr": 2})  # fmt: skip
    (job,) = rebuilt(*began).session.jobs.values()
    assert (job.takes_input, job.seen, job.runs) == (background, {"stdout": 5, "stderr": 0}, True)
    (job,) = rebuilt(*began, *polled).session.jobs.values()
    assert job.seen == {"stdout": 8, "stderr": 2}


def test_children_are_counted_with_what_was_given_to_them_and_what_they_spent():
    child = ChildStarted(name="kid", session="k", call_id="c1", children=2, mergeable=True)
    past = rebuilt(child, *made(1, "spawn", arguments={"name": "kid"}, spent=SPENT))
    budget = past.session.budget
    assert past.session.given == 3
    assert (budget.turns, budget.usage.total, budget.cost_usd) == (3, 50, 0.5)
    assert asdict(past.traffic) == {"bytes_out": 7, "bytes_in": 9}


def test_a_fork_has_spent_nothing_of_what_it_begins_with():
    child = ChildStarted(name="kid", session="k", call_id="c1", children=2, mergeable=True)
    copied = (child, *made(1, "spawn", arguments={"name": "kid"}, spent=SPENT))
    forked = ForkedFrom(session="o", checkpoint=0, digest="0", head="0", entries=len(copied))
    past = rebuilt(*copied, forked=forked)
    assert (past.session.given, past.session.budget.turns, past.traffic) == (0, 0, Traffic())
    assert past.session.next_exec_id() == f"{(1 << 32) + 2:016x}"


def test_a_policy_that_is_not_what_was_decided_on_is_refused():
    with pytest.raises(JournalError, match="cannot go on under it") as refused:
        rebuilt(policy_digest="0" * 64)
    assert refused.value.code == "policy"


def test_a_turn_whose_calls_have_no_results_is_not_over():
    call = Call(id="c", name="bash", arguments={"command": "x"})
    over = TurnDone(status="interrupted", reason="cancelled")
    assert not rebuilt(asked(call), intent(call, 1), over).rested
    assert rebuilt(asked(call), intent(call, 1), came(call), over).rested
