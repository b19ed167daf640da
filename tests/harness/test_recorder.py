"""What a session holds is what its journal says, also where whoever writes it down is cancelled meanwhile."""

from __future__ import annotations

import asyncio

import pytest
from kernel_double import YES, Says, SlowJournal, bash, calls, policy_with

from harness.approvals.grants import Grants
from harness.approvals.petition import Petition
from harness.control.desk import Desk
from harness.events import PromptQueued
from harness.inbox import Inbox
from harness.process.interrupt import Interrupt
from harness.process.recorder import Recorder
from policies.schema import Rule


@pytest.fixture
def recorder():
    return Recorder(SlowJournal(), lambda event: None)


async def cancelled_while_it_writes(work, journal):
    """Cancel it as soon as its entry is written, and before it knows."""
    task = asyncio.ensure_future(work)
    while not journal.entries:
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_prompt_that_is_in_the_journal_waits(recorder):
    inbox = Inbox()
    desk = Desk(inbox, recorder, Interrupt(), attended=True)
    await cancelled_while_it_writes(desk.say("hello", "turn", "terminal"), recorder.journal)
    (entry,) = recorder.journal.entries
    assert isinstance(entry, PromptQueued)
    assert [prompt.name for prompt in inbox.waiting] == [entry.prompt]


async def test_a_grant_that_is_in_the_journal_stands(recorder):
    grants = Grants(recorder)
    petition = Petition("call", "make", (), "", {"command": "make"}, "c", ("once", "session"))
    await cancelled_while_it_writes(grants.give(petition, "session"), recorder.journal)
    (entry,) = recorder.journal.entries
    assert [grant.name for grant in grants.live()] == [entry.grant]
    grants.close()


async def test_a_question_that_is_in_the_journal_has_its_answer_there(make_session):
    asks = Rule(syscall="bash", action="ask", reason="You decide.")
    run = make_session(
        [calls(bash("true")), "done"],
        policy=policy_with(asks),
        prompter=Says(YES),
        journal=SlowJournal(),
    )
    turn = asyncio.create_task(run.turn())
    while "approval_asked" not in run.kinds():
        await asyncio.sleep(0.001)
    run.interrupt.cancel_turn()
    assert (await turn).status == "interrupted"
    assert run.kinds()[2:4] == ["approval_asked", "approval_answered"]
