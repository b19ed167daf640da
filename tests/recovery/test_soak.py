"""The soak in small, and that its judge finds what it is there to find. The whole of it: `make soak`."""

from __future__ import annotations

import asyncio

import pytest

from harness.events import CallOutcome, MessageAdded, SessionEnded
from harness.messages import Call, Message, Result, Usage
from harness.screen.jsonl import encode
from tests.soak.__main__ import soak
from tests.soak.judge import Said, judge
from tests.soak.program import Effect, program
from tests.soak.trial import Session

EFFECT = Effect("call_1", "ran", "0-0")
BESIDE = Effect("call_1", "ran", "0-0", beside=True)
ASKED = MessageAdded(message=Message(role="assistant", parts=(Call(id="call_1", name="bash"),)))
ENDED = SessionEnded(status="done", exit_code=0, reason="", turns=1, usage=Usage(), changes=0)


def outcome(error=None, content=""):
    result = Result(call_id="call_1", name="bash", content=content, error=error)
    return CallOutcome(result=result, duration_s=0)


def judged(*entries, times=1, said=(), effect=EFFECT, container_killed=False):
    counted = {("ran", "0-0"): times}
    return judge(entries, said, [effect], counted, container_killed=container_killed)


@pytest.mark.parametrize(
    ("told", "times"),
    [
        (outcome(), 1),
        (outcome("unknown", "unknown: check"), 0),
        (outcome("unknown", "unknown: check"), 1),
        (outcome("sandbox_gone", "so it is unknown what it did"), 1),
        (outcome("not_run", "not run: nothing of it happened"), 0),
    ],
)
def test_what_is_as_it_was_told_is_sound(told, times):
    verdict = judged(ASKED, told, ENDED, times=times)
    assert (verdict.lost, verdict.doubled, verdict.faults) == ([], [], [])


@pytest.mark.parametrize(
    ("entries", "times", "what"),
    [
        ((ASKED, outcome(), ENDED), 2, "doubled"),
        ((ASKED, outcome("unknown", "unknown: check"), ENDED), 2, "doubled"),
        ((ASKED, outcome(), outcome(), ENDED), 1, "doubled"),
        ((ASKED, outcome(), ENDED), 0, "lost"),
        ((ASKED, ENDED), 1, "lost"),
        ((ASKED, outcome("not_run", "not run"), ENDED), 1, "faults"),
        ((ASKED, outcome("failed", "broken"), ENDED), 0, "faults"),
        ((ASKED, outcome()), 1, "faults"),
    ],
)
def test_what_is_not_is_found(entries, times, what):
    assert getattr(judged(*entries, times=times), what)


def test_a_job_may_end_with_its_container_and_with_nothing_else():
    told = (ASKED, outcome(), ENDED)
    assert judged(*told, times=0, effect=BESIDE).lost
    assert not judged(*told, times=0, effect=BESIDE, container_killed=True).lost


def test_an_acknowledged_entry_that_is_not_in_the_journal_is_found():
    entries = (ASKED, outcome(), ENDED)
    lines = [encode(entry) for entry in entries]
    assert not judged(*entries, said=[Said(0, lines), Said(1, lines[1:])]).lost
    assert judged(*entries, said=[Said(0, lines[::-1])]).lost
    assert judged(*entries, said=[Said(1, lines)]).lost
    assert judged(ASKED, ENDED, said=[Said(0, lines[1:2])]).lost


def test_every_session_has_every_kind_of_effect():
    one = program(1)
    assert one == program(1)
    names = [call["name"] for reply in one.replies for call in reply.get("calls", ())]
    assert {"bash", "edit", "write", "read"} <= set(names)
    assert any(effect.beside for effect in one.effects)


@pytest.mark.docker
async def test_sessions_killed_at_random_lose_nothing_and_leave_nothing(tmp_path):
    trials = await asyncio.to_thread(soak, 6, 20261122, tmp_path, steps=3)
    assert sum(trial.kills for trial in trials) >= 6
    assert all(trial.sound for trial in trials), trials


@pytest.mark.docker
async def test_an_effect_that_happens_twice_is_found_in_a_real_session(tmp_path):
    session = Session(7, tmp_path / "one", steps=2, doubled=True, harmless=True)
    trial = await asyncio.to_thread(session.run)
    assert ["happened 2 times" in what for what in trial.doubled] == [True]
