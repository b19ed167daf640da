"""The gate's questions and reports in a session: who asked, what is written down, what an answer opens."""

from __future__ import annotations

import asyncio

import pytest
from kernel_double import NO, YES, MemoryJournal, Says, bash, calls, policy_with

from harness.approvals.petition import Reply
from harness.boot.egress import asker, opens, reporter
from harness.errors import JournalError
from harness.events import ApprovalAnswered, ApprovalAsked, EgressClosed, EgressDecided
from harness.process.recorder import Recorder
from policies.decide import Decision
from sandbox.egress.report import Attempt, Closed, Decided
from sandbox.protocol import Origin

ASKED = Decision("ask", "network.ask", "It is not listed.")
FIRST = "0000000100000001"


def attempt(exec_id=FIRST, program="curl https://example.org", host="example.org"):
    return Attempt(1, "connect", host, 443, Origin(exec_id, 42, program))


def of(run, kind):
    return [entry for entry in run.journal.entries if isinstance(entry, kind)]


async def test_a_connection_of_a_running_command_is_shown_with_its_call(make_session):
    async def dial(process):
        assert await asker(run.kernel.devices.approvals, run.session)(attempt(), ASKED)
        return 0

    run = make_session(
        [calls(bash("dial")), "done"], policy=policy_with(), prompter=Says(YES), commands={"dial": dial}
    )
    await run.turn()
    [asked] = of(run, ApprovalAsked)
    facts = dict(asked.facts)
    assert facts["opened by"] == "curl https://example.org (pid 42), of call #1: $ dial"
    assert facts["asked by"] == "network.ask: It is not listed."
    assert run.results[0].error is None
    assert asked.call_id == run.results[0].call_id


@pytest.mark.parametrize(
    ("exec_id", "shown"),
    [
        (FIRST, "curl x (pid 42), in the background, started by call #1: $ true"),
        ("0000000100000009", "curl x (pid 42), of no call that is known"),
        (None, "curl x (pid 42), of no call that is known"),
    ],
)
async def test_a_background_program_is_named_with_the_call_that_started_it(make_session, exec_id, shown):
    run = make_session(
        [calls(bash("true")), calls(bash("true")), "done"], policy=policy_with(), prompter=Says(NO)
    )
    await run.turn()
    asking = asker(run.kernel.devices.approvals, run.session)
    assert not await asking(attempt(exec_id, "curl x"), ASKED)
    assert dict(of(run, ApprovalAsked)[0].facts)["opened by"] == shown


async def test_a_yes_for_once_is_none_for_another_host_or_the_next_connection(make_session):
    person = Says(YES, NO)
    run = make_session(["done"], policy=policy_with(), prompter=person)
    asking = asker(run.kernel.devices.approvals, run.session)
    assert await asking(attempt(), ASKED)
    assert not await asking(attempt(), ASKED)
    assert not await asking(attempt(host="other.example"), ASKED)
    assert len(person.asked) == 3


async def test_a_yes_for_the_session_opens_the_gate_and_its_end_closes_it(make_session):
    done = []

    class Gate:
        def grant(self, host, port, *, once=False):
            done.append(("grant", host, port))

        def revoke(self, host, port):
            done.append(("revoke", host, port))

    run = make_session(["done"], policy=policy_with(), prompter=Says(Reply(True, "minutes", 0.002)))
    approvals = run.kernel.devices.approvals
    approvals.grants.on_given, approvals.grants.on_end = opens(Gate())
    assert await asker(approvals, run.session)(attempt(), ASKED)
    assert done == [("grant", "example.org", 443)]
    await asyncio.sleep(0.3)
    assert done[1:] == [("revoke", "example.org", 443)]


async def test_sudo_and_the_gate_ask_the_same_question_so_a_grant_of_one_answers_the_other(make_session):
    person = Says(Reply(True, "session"), NO)
    run = make_session(["done"], policy=policy_with(), prompter=person)
    asking = asker(run.kernel.devices.approvals, run.session)
    assert await asking(attempt(), ASKED)
    assert await asking(attempt("0000000100000002", "another program"), ASKED)
    assert [answer.by for answer in of(run, ApprovalAnswered)] == ["terminal", "grant g1"]
    assert not await asking(attempt(host="other.example"), ASKED)


async def test_what_the_gate_decides_is_written_down_and_an_unwritable_journal_stops_it():
    journal = MemoryJournal()
    report = reporter(Recorder(journal, lambda event: None))
    await report(Decided(attempt(), "allow", "network.allow example.org", "Listed.", "192.0.2.1"))
    await report(Closed(1, 10, 20, 0.5, "done"))
    decided, closed = journal.entries
    assert isinstance(decided, EgressDecided)
    assert (decided.exec_id, decided.program, decided.address) == (
        FIRST,
        "curl https://example.org",
        "192.0.2.1",
    )
    assert isinstance(closed, EgressClosed)
    journal.fails_at = 2
    with pytest.raises(JournalError):
        await report(Decided(attempt(), "allow", "x", "y"))
