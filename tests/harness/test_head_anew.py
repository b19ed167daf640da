"""A summary that stands in the context is made anew, and smaller, when nothing else is left to put out."""

from __future__ import annotations

from harness.events import Compacted
from harness.memory.assemble import Memory
from harness.memory.room import make_room
from harness.messages import Message, Text, Usage, user
from harness.provider import Reply


class Recorded:
    def __init__(self):
        self.entries = []

    async def record(self, *entries):
        self.entries += entries
        return entries


async def summary(request):
    text = '{"goal": "mend it", "findings": ["port 8713"]}'
    return Reply(Message(role="assistant", parts=(Text(text=text),)), Usage(), "end"), 0.0


async def nobody(request):
    raise AssertionError("there is nothing new to be summarised")


async def test_a_head_that_became_too_large_is_made_anew_over_the_same_messages():
    memory, records = Memory(), Recorded()
    messages = [user(f"{number}: " + "mind the gap " * 2_000) for number in range(12)]
    assert await make_room(memory, messages, 6_000, records, summary, overflowed=False) is None
    *_, first = [entry for entry in records.entries if isinstance(entry, Compacted)]
    assert first.through == len(messages)  # even the last one is too large for what there is
    before = memory.tokens
    assert await make_room(memory, messages, before * 4 // 5, records, nobody, overflowed=False) is None
    *_, last = [entry for entry in records.entries if isinstance(entry, Compacted)]
    assert last.through == first.through
    assert memory.tokens <= before * 4 // 5
    assert len(last.head) < len(first.head)
