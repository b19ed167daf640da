"""What recovery knows of two calls that write one file, the first of which had to be done again."""

from __future__ import annotations

from types import SimpleNamespace

from journal_double import first_entry

from harness.events import CallIntent, FileAhead, MessageAdded
from harness.messages import Call, Message
from harness.recovery.rebuild import Rebuilder


def rebuilt(*entries):
    told = Rebuilder()
    for seq, entry in enumerate((first_entry("s"), *entries), 1):
        told.feed(SimpleNamespace(seq=seq, ts=f"2026-01-01T00:00:{seq:02}.000000Z", entry=entry))
    return told.rebuilt()


def write(call_id):
    return Call(id=call_id, name="write", arguments={"path": "x", "content": call_id})


def announced(call_id, number):
    return CallIntent(call=write(call_id), exec_id=f"{(1 << 32) + number:016x}", decision="allow")


def ahead(call_id, before, after):
    return FileAhead(call_id=call_id, path="/workspace/x", before=before, after=after)


ASKED = MessageAdded(message=Message(role="assistant", parts=(write("one"), write("two"))))
BOTH = (ASKED, announced("one", 1), ahead("one", "", "1"), announced("two", 2))


def test_the_next_call_tells_what_the_one_before_it_left():
    one, two = rebuilt(*BOTH, ahead("two", "1", "2")).open
    assert (one.found, two.found) == ("1", None)


def test_once_the_first_is_done_again_what_the_second_found_before_says_nothing_of_it():
    # Nothing had come of it; it was announced anew by a harness that died in turn.
    again = (announced("one", 1), ahead("one", "", "1"))
    one, two = rebuilt(*BOTH, ahead("two", "", "2"), *again).open
    assert (one.found, two.found) == (None, "")
