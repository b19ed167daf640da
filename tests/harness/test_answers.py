"""Answers folded from a journal: those that stand again, and for exactly what they were given."""

from __future__ import annotations

from types import SimpleNamespace

from harness.approvals.petition import binding_of
from harness.events import ApprovalAsked, GrantChanged
from harness.recovery.answers import Answers

BOUND = {"command": "make", "cwd": "/workspace"}


def grant(name, change="given", *, bound=None, scope="session"):
    return GrantChanged(
        grant=name,
        change=change,
        what="make",
        binding=binding_of("call", BOUND),
        scope=scope,
        until=None,
        petition="call",
        bound=BOUND if bound is None else bound,
    )


def folded(*entries):
    answers = Answers()
    for entry in entries:
        answers.feed(SimpleNamespace(ts="2026-01-01T00:00:00.000000Z", entry=entry))
    return answers


def test_what_was_given_stands_until_it_is_taken_back():
    assert [one.name for one in folded(grant("g1"), grant("g2")).standing] == ["g1", "g2"]
    answers = folded(grant("g1"), grant("g2"), grant("g1", "revoked"), grant("g2", "expired"))
    assert (answers.standing, answers.given) == ((), 2)


def test_an_answer_that_was_redacted_is_bound_to_something_else_and_stands_no_longer():
    redacted = {**BOUND, "command": "make ‹redacted:TOKEN›"}
    assert folded(grant("g1", bound=redacted)).standing == ()


def test_answers_for_good_are_kept_elsewhere():
    assert folded(grant("g1", scope="always")).standing == ()


def test_questions_are_counted_so_that_no_name_is_given_twice():
    asked = ApprovalAsked(
        approval="a1", what="call", facts=(), said="", binding="0", call_id=None, timeout_s=1
    )
    assert folded(asked, asked.model_copy(update={"approval": "a2"})).asked == 2
