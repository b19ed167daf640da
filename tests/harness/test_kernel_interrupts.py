"""What may be done to a running turn from outside, and that no call is left without a result."""

from __future__ import annotations

import asyncio

import pytest
from kernel_double import Says, bash, calls, policy_with

from harness.events import CallIntent, CallOutcome, MessageAdded
from harness.process.interrupt import Interrupt
from harness.provider import TextDelta
from policies.schema import Rule


class Endless:
    """A model that begins to speak and never ends."""

    name, model = "endless", "endless"

    def __init__(self):
        self.speaking = asyncio.Event()
        self.closed = False

    async def stream(self, request):
        try:
            yield TextDelta("let me think")
            self.speaking.set()
            await asyncio.sleep(3600)
        finally:
            self.closed = True

    async def aclose(self):
        return None


async def begun(run, name="marker"):
    """Wait until a command of the session has made its mark."""
    while True:
        try:
            await run.box.stat(f"/workspace/{name}")
            return
        except FileNotFoundError:
            await asyncio.sleep(0.01)


def open_calls(run):
    intents = [entry.call.id for entry in run.journal.entries if isinstance(entry, CallIntent)]
    outcomes = [entry.result.call_id for entry in run.journal.entries if isinstance(entry, CallOutcome)]
    return sorted(intents), sorted(outcomes)


async def test_cancelling_a_turn_stops_the_model_and_keeps_what_it_said(make_session):
    model = Endless()
    run = make_session([], provider=model)
    turn = asyncio.create_task(run.turn())
    await model.speaking.wait()
    run.interrupt.cancel_turn()
    assert (await turn).status == "interrupted"
    assert model.closed
    last = run.journal.entries[-1]
    assert isinstance(last, MessageAdded)
    assert (last.stop, last.message.text) == ("cancelled", "let me think")


async def test_cancelling_a_turn_ends_its_commands_and_keeps_their_output(make_session):
    run = make_session([calls(bash("echo partial; touch marker; sleep 60"), bash("touch never"))])
    turn = asyncio.create_task(run.turn())
    await begun(run)
    run.interrupt.cancel_turn()
    assert (await turn).status == "interrupted"
    first, second = run.results
    assert first.error == second.error == "cancelled"
    assert first.content.startswith("partial\n")
    assert "nothing was run" in second.content
    assert not await run.box.jobs()
    intents, outcomes = open_calls(run)
    assert intents == outcomes


async def test_the_session_goes_on_after_a_cancelled_turn(make_session):
    run = make_session([calls(bash("touch marker; sleep 60")), "What now?"])
    turn = asyncio.create_task(run.turn())
    await begun(run)
    run.interrupt.cancel_turn()
    await turn
    run.interrupt.resume()
    assert (await run.turn("go on")).status == "done"
    assert run.session.messages[-1].text == "What now?"


async def test_one_call_can_be_cancelled_and_the_turn_goes_on(make_session):
    run = make_session([calls(bash("touch marker; sleep 60"), bash("echo next")), "done"])
    turn = asyncio.create_task(run.turn())
    await begun(run)
    assert run.interrupt.cancel_call("call_1")
    assert (await turn).status == "done"
    assert run.results[0].error == "cancelled"
    assert run.results[1].content == "next\n[exit code 0]"


async def test_a_call_can_be_cancelled_while_it_waits_for_its_turn(make_session):
    async def cancel(process):
        run.interrupt.cancel_call("call_2")
        return 0

    run = make_session(
        [calls(("read", {"path": "slow"}), ("write", {"path": "slow", "content": "x"})), "done"],
    )
    reading = asyncio.Event()
    plain_read = run.box.read_file

    async def slow_read(path, offset=0, limit=None):
        reading.set()
        await asyncio.sleep(0.2)
        return await plain_read(path, offset, limit)

    run.box.read_file = slow_read
    turn = asyncio.create_task(run.turn())
    await reading.wait()
    assert run.interrupt.cancel_call("call_2")
    assert (await turn).status == "done"
    assert run.results[1].error == "cancelled"
    assert "nothing was run" in run.results[1].content
    with pytest.raises(FileNotFoundError):
        await run.box.stat("/workspace/slow")


async def test_an_unknown_call_cannot_be_cancelled():
    assert Interrupt().cancel_call("nope") is False


async def test_a_turn_cancelled_while_the_user_is_asked_is_over(make_session):
    person = Says(3600.0)
    policy = policy_with(Rule(syscall="bash", action="ask", reason="You decide."))
    run = make_session([calls(bash("touch marker"))], policy=policy, prompter=person)
    turn = asyncio.create_task(run.turn())
    await person.seen.wait()
    run.interrupt.cancel_turn()
    assert (await turn).status == "interrupted"
    assert run.results[0].error == "cancelled"
    with pytest.raises(FileNotFoundError):
        await run.box.stat("/workspace/marker")


async def test_a_steering_message_arrives_between_steps_without_stopping_a_command(make_session):
    run = make_session([calls(bash("touch marker; sleep 0.3; echo finished")), "As you say."])
    turn = asyncio.create_task(run.turn())
    await begun(run)
    run.steer("rather use tabs")
    await turn
    assert run.results[0].content == "finished\n[exit code 0]"
    assert [message.role for message in run.session.messages] == [
        "user",
        "assistant",
        "tool",
        "user",
        "assistant",
    ]
    assert run.session.messages[3].text == "rather use tabs"
    assert run.kinds().count("message:user") == 2


async def test_a_message_during_the_last_words_is_answered_too(make_session):
    run = make_session(["All done.", "And the tabs."])
    run.kernel.devices.recorder.journal.append_many = _steering_once(run)
    await run.turn()
    assert [message.text for message in run.session.messages] == [
        "do it",
        "All done.",
        "tabs!",
        "And the tabs.",
    ]


def _steering_once(run):
    append = run.journal.append_many

    async def append_many(entries, told):
        if any(isinstance(entry, MessageAdded) and entry.message.text == "All done." for entry in entries):
            run.steer("tabs!")
        return await append(entries, told)

    return append_many


async def test_killing_the_whole_task_still_ends_commands_and_records_their_outcome(make_session):
    run = make_session([calls(bash("touch marker; sleep 60"))])
    turn = asyncio.create_task(run.turn())
    await begun(run)
    turn.cancel()
    with pytest.raises(asyncio.CancelledError):
        await turn
    assert not await run.box.jobs()
    intents, outcomes = open_calls(run)
    assert intents == outcomes == ["call_1"]


async def test_a_scope_swallows_its_own_cancellation_only():
    interrupt = Interrupt()
    inside = asyncio.Event()

    async def work():
        with interrupt.scope():
            inside.set()
            await asyncio.sleep(3600)
        return "went on"

    task = asyncio.create_task(work())
    await inside.wait()
    interrupt.cancel_turn()
    assert await task == "went on"

    interrupt.resume()
    inside.clear()
    task = asyncio.create_task(work())
    await inside.wait()
    interrupt.cancel_turn()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
