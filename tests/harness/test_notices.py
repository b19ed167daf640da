"""What the program says in the user's place is never told as the user's word."""

from __future__ import annotations

import json

import pytest

from harness.events import MessageAdded
from harness.journal.writer import Journal
from harness.memory.assemble import Memory
from harness.memory.compaction import Cut, head
from harness.memory.index import Index
from harness.memory.summary import transcript
from harness.messages import user
from harness.notices import NOTICES
from harness.syscalls.recall import _named


@pytest.mark.parametrize("notice", sorted(NOTICES))
async def test_a_notice_is_no_word_of_the_users(notice, tmp_path):
    said = [user("mend it"), user(notice), user("and quickly")]
    memory = Memory()
    memory.table.take(said)
    text = head(memory, said, Cut(3, 0, 3, 1, 0), None, 10_000)
    assert notice not in text
    assert text.count("\n<<< ") == 2
    kinds = [json.loads(line)["kind"] for line in transcript(said, 1, 1_000)]
    assert kinds == ["user", "notice", "user"]
    journal = Journal.create(tmp_path / "s")
    await journal.append_many([MessageAdded(message=message) for message in said])
    journal.close()
    pages = [Index(tmp_path / "s").page(f"p{number}") for number in (1, 2)]
    assert [_named(page).partition(": ")[2].partition(",")[0] for page in pages] == [
        "the user's message",
        "usermode's message",
    ]
