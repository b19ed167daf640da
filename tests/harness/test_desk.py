"""What the user says to a running session, and does to it, here and from another terminal."""

from __future__ import annotations

import asyncio
import json
import os

import pytest
from boot_double import Started, asked, asking, usermode
from kernel_double import MemoryJournal, bash, calls

from harness.control import desk as desk_module
from harness.control.client import line_to
from harness.control.desk import Desk
from harness.control.server import MAX_SAID
from harness.errors import JournalError, UsageError
from harness.events import CallOutcome, MessageAdded, Notice, PromptDropped, PromptQueued, TurnDone
from harness.screen.typed import LINE_BYTES, Lines
from policies import load


@pytest.fixture
def started(tmp_path):
    return Started(tmp_path)


def said(started):
    return [
        (entry.message.text, entry.prompt)
        for entry in started.journal
        if isinstance(entry, MessageAdded) and entry.message.role == "user"
    ]


def turns(started):
    return [entry.status for entry in started.journal if isinstance(entry, TurnDone)]


async def test_another_terminal_steers_adds_a_turn_takes_one_back_and_cancels_a_call(started):
    started.says(calls(bash("touch marker")), "Tabs.", "And the tests.")
    session = asyncio.create_task(started.run(policy=asking()))
    directory = await asked(started)
    code, out, _ = await usermode(started, "say", "last", "rather tabs")
    assert (code, "q1 waits for the next request" in out) == (0, True)
    async with line_to(directory) as line:
        await line.ask(op="say", text="now the tests", when="turn")
        await line.ask(op="say", text="never mind\u202e\x1b[2J", when="turn")
        for wrong in ({"text": " ", "when": "turn"}, {"text": "x" * (MAX_SAID + 1), "when": "turn"}):
            with pytest.raises(UsageError):
                async with line_to(directory) as other:
                    await other.ask(op="say", **wrong)
    code, out, _ = await usermode(started, "queue")
    assert [line.split()[0] for line in out.splitlines()] == ["q1", "q2", "q3"]
    assert "\x1b" not in out
    assert "\u202e" not in out
    async with line_to(directory) as line:
        await line.ask(op="drop", prompt="q3")
        with pytest.raises(UsageError, match="no prompt q3 waits"):
            await line.ask(op="drop", prompt="q3")
        with pytest.raises(UsageError, match="these are: call_1"):
            await line.ask(op="cancel", call="nosuch")
    assert (await usermode(started, "cancel", "last", "call_1"))[0] == 0
    assert (await session).status == "refused"  # nobody said yes to what was cancelled
    [outcome] = [entry for entry in started.journal if isinstance(entry, CallOutcome)]
    assert outcome.result.error == "cancelled"
    assert said(started) == [("mend it", None), ("rather tabs", "q1"), ("now the tests", "q2")]


async def test_another_terminal_cancels_the_turn_and_what_waits_is_kept_for_a_resume(started):
    started.says(calls(bash("touch marker")), "Done.")
    session = asyncio.create_task(started.run(policy=asking()))
    async with line_to(await asked(started)) as line:
        await line.ask(op="say", text="and then this", when="turn")
        await line.ask(op="cancel", call=None)
    assert (await session).status == "interrupted"
    assert said(started) == [("mend it", None)]
    code, out, _ = await usermode(started, "queue", "--json")
    assert (code, json.loads(out)["text"]) == (0, "and then this")
    code, _, err = await usermode(started, "say", "last", "more")
    assert (code, "usermode resume" in err) == (2, True)
    # Taken back where nobody runs it; the session has still ended.
    assert (await usermode(started, "queue", "--drop", "q1"))[0] == 0
    assert isinstance(started.journal[-2], PromptDropped)
    assert (await usermode(started, "queue"))[1] == "nothing waits\n"
    assert started.sessions[-1].ended == "interrupted"


async def test_a_turn_the_models_service_breaks_off_does_not_end_a_chat(started):
    started.says("One.")

    async def talk(desk):
        await desk.say("first", "request", "terminal")
        await desk.say("second", "turn", "terminal")
        while len(turns(started)) < 2:
            await asyncio.sleep(0.01)
        assert desk.stays
        desk.leave()

    ended = await started.run(task="", talk=talk)
    assert (ended.status, ended.exit_code) == ("done", 0)
    assert turns(started) == ["done", "failed"]
    assert any(isinstance(entry, Notice) and entry.code == "provider" for entry in started.journal)


async def test_where_nobody_says_more_a_fault_of_the_models_service_is_how_it_ends(started):
    started.says("One.")

    async def talk(desk):
        for text in ("first", "second", "third"):
            await desk.say(text, "turn", "terminal")

    ended = await started.run(task="", talk=talk)
    assert (ended.status, ended.exit_code) == ("provider", 5)
    assert said(started) == [("first", "q1"), ("second", "q2")]


async def test_a_chat_nobody_says_anything_to_ends_when_its_time_is_over(started):
    started.says("Never said.")
    policy = load("dev")
    policy = policy.model_copy(update={"limits": policy.limits.model_copy(update={"session_s": 0.2})})

    async def talk(desk):
        await asyncio.sleep(3600)

    ended = await started.run(task="", talk=talk, policy=policy)
    assert (ended.status, ended.exit_code) == ("budget", 4)


async def test_a_fault_of_whoever_talks_is_not_kept_quiet(started):
    started.says("Never said.")

    async def talk(desk):
        raise RuntimeError("the terminal fell over")

    with pytest.raises(RuntimeError, match="fell over"):
        await started.run(task="", talk=talk)


async def test_prompts_are_bounded_in_size_and_number(started, monkeypatch):
    monkeypatch.setattr(desk_module, "MAX_WAITING", 3)
    monkeypatch.setattr(desk_module, "PROMPT_BYTES", 100)
    started.says(calls(bash("sleep 3600")), "Done.")

    async def talk(desk):
        await desk.say("first", "turn", "terminal")
        while not desk.busy:
            await asyncio.sleep(0.01)
        for text in ("", " \n", "é" * 51):
            with pytest.raises(UsageError):
                await desk.say(text, "request", "terminal")
        for _ in range(3):
            await desk.say("more", "turn", "terminal")
        with pytest.raises(UsageError, match="wait already"):
            await desk.say("too much", "turn", "terminal")
        desk.leave()

    assert (await started.run(task="", talk=talk)).status == "done"
    assert sum(isinstance(entry, PromptQueued) for entry in started.journal) == 4


async def test_what_cannot_be_written_down_is_not_taken_and_not_taken_back(make_session):
    journal = MemoryJournal(fails_at=3)
    run = make_session(["Done."], journal=journal)
    desk = Desk(run.session.inbox, run.kernel.devices.recorder, run.interrupt, attended=True)
    for text in ("one", "two", "three"):
        await desk.say(text, "turn", "terminal")
    with pytest.raises(JournalError):
        await desk.say("four", "turn", "terminal")
    with pytest.raises(JournalError):
        await desk.drop("q2", "terminal")
    assert [prompt.name for prompt in desk.inbox.waiting] == ["q1", "q2", "q3"]
    journal.fails_at = None
    assert await desk.drop("q2", "terminal")
    assert await desk.say("four", "turn", "terminal") not in ("q1", "q2", "q3")


async def test_lines_come_one_by_one_and_the_last_needs_no_end(tmp_path):
    reading, writing = os.pipe()
    lines = Lines(reading)
    os.write(writing, b"one\ntw")
    assert await lines.line() == "one"
    second = asyncio.create_task(lines.line())
    await asyncio.sleep(0)
    async with lines.lent():
        # Somebody else has the terminal: what is typed now is theirs.
        os.write(writing, b"y")
        await asyncio.sleep(0.02)
        assert os.read(reading, 10) == b"y"
    os.write(writing, b"o\n\nrest\xff")
    os.close(writing)
    assert await second == "two"
    assert [await lines.line() for _ in range(4)] == ["", "rest\ufffd", None, None]
    os.close(reading)
    path = tmp_path / "prompts"
    path.write_bytes(b"a\nb")
    fd = os.open(path, os.O_RDONLY)
    lines = Lines(fd)
    assert [await lines.line() for _ in range(3)] == ["a", "b", None]
    os.close(fd)


async def test_an_endless_line_is_refused(tmp_path):
    path = tmp_path / "zeros"
    path.write_bytes(b"\0" * (LINE_BYTES + (128 << 10)))
    fd = os.open(path, os.O_RDONLY)
    with pytest.raises(UsageError, match="longer than"):
        await Lines(fd).line()
    os.close(fd)
