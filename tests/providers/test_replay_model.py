"""The replayed model: the recorded replies, as long as the session asks the same; else the first byte that
differs.
"""

from __future__ import annotations

import pytest
from asking import ask, fault_of, reply_of

from harness.errors import JournalError, UsageError
from harness.events import CallIntent, CallOutcome, ChildStarted, Entry, MessageAdded, Notice
from harness.journal.writer import Journal
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


OWN, CHILD, OTHER = (f"20261122-14300{n}-8f3a2c" for n in range(3))
SPAWN = Call(id="call_1", name="spawn", arguments={"name": "tests", "task": "go"})
STARTED = ChildStarted(name="tests", session=CHILD, call_id="call_1", children=0, mergeable=True)
ASKED = Message(role="assistant", parts=(Text(text="I ask."), SPAWN))


def told(of: str, more: str = "") -> Result:
    return Result(call_id="call_1", name="spawn", content=f"child tests (session {of}) ended: done{more}")


def with_child(result: Result, **details: str) -> list[Entry]:
    return [
        MessageAdded(message=user("go")),
        MessageAdded(message=ASKED, stop="calls"),
        CallIntent(call=SPAWN, decision="allow"),
        STARTED,
        CallOutcome(result=result, duration_s=0.1, details=details),
        MessageAdded(message=LAST, stop="end"),
    ]


def after(result: Result) -> list[Message]:
    return [user("go"), ASKED, Message(role="tool", parts=(result,))]


async def test_where_a_recorded_child_is_named_any_session_may_be_and_nothing_else_may():
    provider = ReplayProvider(with_child(told(CHILD, f", as {OTHER} did")))
    now = "20270101-000000-abcdef"
    assert (await reply_of(provider, ask(*after(told(now, f", as {OTHER} did"))))).message == LAST
    for different in (
        told(OTHER, f", as {OTHER} did"),
        told(now, f", as {now} did"),
        told("20270101-000000-abcde"),
    ):
        fault = await fault_of(provider, ask(*after(different)))
        assert fault.fault == "drift"
    fault = await fault_of(provider, ask(*after(told(now, f", as {OTHER} dad"))))
    # The id is no difference: what is named is the byte after it.
    assert "recorded" in str(fault)
    at = (
        Message(role="tool", parts=(told(now, f", as {OTHER} did"),)).model_dump_json().encode().rindex(b"id")
    )
    assert f"from byte {at} on" in str(fault)


async def test_ids_and_redactions_may_stand_beside_each_other():
    provider = ReplayProvider(with_child(told(CHILD, ", ‹redacted:TOKEN›.")))
    same = await reply_of(provider, ask(*after(told("20270101-000000-abcdef", ", s3cret."))))
    assert same.message == LAST
    assert (
        await fault_of(provider, ask(*after(told("20270101-000000-abcdef", ", s3cret"))))
    ).fault == "drift"


async def written(directory, entries):
    directory.mkdir(mode=0o700, exist_ok=True)
    journal = Journal.create(directory)
    for entry in entries:
        await journal.append(entry)
    journal.close()
    return directory


async def test_a_child_is_played_from_its_own_journal_by_the_call_that_started_it(tmp_path):
    await written(tmp_path / CHILD, [MessageAdded(message=user("go")), MessageAdded(message=LAST)])
    parent = await written(tmp_path / OWN, with_child(told(CHILD), session=CHILD))
    provider = ReplayProvider.from_journal(parent / "journal.jsonl")
    assert (await reply_of(provider.of_child("call_1"), ask(user("go")))).message == LAST
    assert (await fault_of(provider.of_child("call_1"), ask(user("come")))).fault == "drift"
    with pytest.raises(UsageError, match="no session of its own was started by call_2"):
        provider.of_child("call_2")


async def test_a_child_whose_journal_is_gone_is_named_unless_it_never_began(tmp_path):
    parent = await written(tmp_path / OWN, with_child(told(CHILD), session=CHILD))
    with pytest.raises(UsageError, match=f"the child tests, whose journal is gone.*{CHILD}"):
        ReplayProvider.from_journal(parent)
    failed = told(CHILD).model_copy(update={"content": "it could not be started", "error": "failed"})
    again = await written(tmp_path / OTHER, with_child(failed))
    provider = ReplayProvider.from_journal(again)
    with pytest.raises(UsageError):
        provider.of_child("call_1")
    assert (await reply_of(provider, ask(*after(failed)))).message == LAST


@pytest.mark.parametrize("session", [OWN, "../" + CHILD, CHILD + "\n"])
async def test_a_journal_that_names_what_cannot_be_its_child_is_not_trusted(tmp_path, session):
    await written(tmp_path / CHILD, [MessageAdded(message=LAST)])
    entries = with_child(told(CHILD), session=session)
    entries[3] = STARTED.model_copy(update={"session": session})
    parent = await written(tmp_path / OWN, entries)
    with pytest.raises(JournalError) as caught:
        ReplayProvider.from_journal(parent)
    assert caught.value.code == "corrupt"
