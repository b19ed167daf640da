"""The inbox by itself: what waits, and what no longer does."""

from __future__ import annotations

from harness.events import Rewound
from harness.inbox import Inbox


def test_going_back_drops_what_waits_and_gives_no_name_again():
    inbox = Inbox()
    inbox.feed(inbox.entry("one", "turn", "terminal"))
    inbox.feed(Rewound(to=0, digest="0" * 64, removed=0, made=0))
    assert not inbox.waiting
    assert inbox.entry("two", "turn", "terminal").prompt == "q2"


def test_a_prompt_that_is_put_back_waits_in_its_place():
    inbox = Inbox()
    for text in ("one", "two", "three"):
        inbox.feed(inbox.entry(text, "turn", "terminal"))
    taken = inbox.take("q1")
    assert taken is not None
    assert inbox.take("q1") is None
    inbox.put_back(taken)
    assert [prompt.text for prompt in inbox.waiting] == ["one", "two", "three"]
