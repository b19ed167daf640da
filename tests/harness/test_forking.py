"""What of a journal a fork begins with, by the entries alone."""

from __future__ import annotations

from types import SimpleNamespace

from journal_double import first_entry

from harness.events import Checkpointed, MessageAdded, Rewound, TurnDone
from harness.messages import Message, Text, user
from harness.recovery.forking import history


def said(text):
    return MessageAdded(message=user(text))


def kept(number):
    return Checkpointed(number=number, digest=f"{number}" * 64, files=1, bytes=1)


ANSWER = MessageAdded(message=Message(role="assistant", parts=(Text(text="so be it"),)))
OVER = TurnDone(status="done", reason="the model answered")


def begun(number, *entries):
    records = [
        SimpleNamespace(seq=seq, hash=f"h{seq}", entry=entry)
        for seq, entry in enumerate((first_entry("s"), *entries), 1)
    ]
    return history(records, number).entries


def test_a_turn_that_is_over_at_the_checkpoint_is_over_in_the_fork():
    turn = (said("one"), ANSWER, kept(0), OVER)
    assert begun(0, *turn) == turn
    assert begun(None, *turn) == turn


def test_one_that_went_on_after_it_is_not():
    turn = (said("one"), kept(0), ANSWER, OVER)
    for number in (0, None):
        assert begun(number, *turn) == turn[:2]


def test_what_was_taken_back_is_no_part_of_it():
    back = Rewound(to=0, digest="0" * 64, removed=0, made=0)
    first, second, third = (said("one"), kept(0)), (said("two"), kept(1)), (said("three"), kept(2))
    assert begun(2, *first, *second, back, *third) == (*first, *third)
    assert begun(1, *first, *second, back, *third) == (*first, *second)
    assert begun(None, *first, *second, back) == first
