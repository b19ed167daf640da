"""The replayed model: the recorded replies, as long as the session asks the same; else the first byte that
differs.
"""

from __future__ import annotations

import pytest
from asking import ask, fault_of, reply_of

from harness.errors import JournalError, UsageError
from harness.events import CallIntent, CallOutcome, Entry, MessageAdded, Notice
from harness.journal import Journal
from harness.messages import Call, Message, Result, Text, Usage, user
from harness.providers.replay import ReplayProvider

LS, PWD = Call(id="call_1", name="bash", arguments={"command": "ls"}), Call(id="call_2", name="bash")
FIRST = Message(role="assistant", parts=(Text(text="I look."), LS, PWD))
LISTED = Result(call_id="call_1", name="bash", content="a\nb\n")
WHERE = Result(call_id="call_2", name="bash", content="/workspace")
RESULTS = Message(role="tool", parts=(LISTED, WHERE))
LAST = Message(role="assistant", parts=(Text(text="Done."),))


def recording(results: tuple[Result, ...] = (WHERE, LISTED)) -> list[Entry]:
    """A session whose calls ended in another order than they were made."""
    return [
        MessageAdded(message=user("go")),
        MessageAdded(message=FIRST, usage=Usage(output_tokens=7), stop="calls"),
        CallIntent(call=LS, decision="allow"),
        CallIntent(call=PWD, decision="allow"),
        *(CallOutcome(result=result, duration_s=0.1) for result in results),
        Notice(level="info", code="retry", text="again"),
        MessageAdded(message=user("quickly")),
        MessageAdded(message=LAST, stop="end"),
    ]


async def test_replies_come_as_recorded():
    provider = ReplayProvider(recording())
    first = await reply_of(provider, ask(user("go")))
    assert (first.message, first.usage, first.stop) == (FIRST, Usage(output_tokens=7), "calls")
    last = await reply_of(provider, ask(user("go"), FIRST, RESULTS, user("quickly")))
    assert (last.message, last.stop) == (LAST, "end")


async def test_a_journal_that_also_holds_the_message_of_results_replays_the_same():
    entries = recording()
    entries.insert(-2, MessageAdded(message=RESULTS))
    last = await reply_of(ReplayProvider(entries), ask(user("go"), FIRST, RESULTS, user("quickly")))
    assert last.message == LAST


async def test_drift_names_the_message_and_the_first_differing_byte():
    changed = Message(role="tool", parts=(LISTED.model_copy(update={"content": "ä\nc\n"}), WHERE))
    recorded = recording((LISTED.model_copy(update={"content": "ä\nb\n"}), WHERE))
    fault = await fault_of(ReplayProvider(recorded), ask(user("go"), FIRST, changed, user("quickly")))
    at = changed.model_dump_json().encode().index(b"c\\n")
    assert fault.fault == "drift"
    assert f"message 3 (tool) differs from byte {at} on" in str(fault)
    assert "b\\\\n" in str(fault)


async def test_drift_in_the_number_of_messages_is_said():
    provider = ReplayProvider(recording())
    fault = await fault_of(provider, ask(user("go"), FIRST, RESULTS))
    assert "sends 3 messages where 4 were recorded" in str(fault)
    fault = await fault_of(provider, ask(user("go"), FIRST, RESULTS, user("quickly"), LAST, user("and?")))
    assert "holds 2 replies and the session asks for one more" in str(fault)


async def test_what_the_journal_redacted_may_be_anything_and_nothing_else_may():
    hidden = LISTED.model_copy(update={"content": "a=‹redacted:TOKEN›, b=‹redacted:TOKEN›."})
    provider = ReplayProvider(recording((hidden, WHERE)))

    def now(content: str) -> Message:
        return Message(role="tool", parts=(LISTED.model_copy(update={"content": content}), WHERE))

    same = await reply_of(provider, ask(user("go"), FIRST, now("a=s3cret, b=s3cret."), user("quickly")))
    assert same.message == LAST
    for content in ("a=s3cret; b=s3cret.", "a=s3cret, b=s3cret", "x=s3cret, b=s3cret.", "a="):
        fault = await fault_of(provider, ask(user("go"), FIRST, now(content), user("quickly")))
        assert fault.fault == "drift"


async def test_a_journal_on_disk_is_replayed(tmp_path):
    session = tmp_path / "session"
    session.mkdir(mode=0o700)
    journal = Journal.create(session)
    for entry in recording():
        await journal.append(entry)
    journal.close()
    for path in (session, session / "journal.jsonl"):
        provider = ReplayProvider.from_journal(path)
        assert (await reply_of(provider, ask(user("go")))).message == FIRST


def test_a_recording_without_replies_or_without_trust_is_refused(tmp_path):
    with pytest.raises(UsageError, match="holds no reply"):
        ReplayProvider([MessageAdded(message=user("go"))])
    (tmp_path / "journal.jsonl").write_text('{"not": "a journal"}\n{"at": "all"}\n')
    with pytest.raises(JournalError):
        ReplayProvider.from_journal(tmp_path)
