"""The journal: on the disk when append returns, verifiable by a stranger, never in doubt after a failure."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import JournalError
from harness.events import (
    CallIntent,
    CallOutcome,
    MessageAdded,
    Notice,
    SandboxOpened,
    SessionEnded,
    SessionStarted,
    WorkspaceCopied,
)
from harness.journal import writer as module
from harness.journal.record import FILE, GENESIS, BadLine, Head, decode, drafted, encode
from harness.journal.redact import Redactor
from harness.journal.writer import Journal, read, verify
from harness.messages import Call, Message, Result, Text, Thinking, Usage

PLAIN = Redactor()


def notice(text: str = "x") -> Notice:
    return Notice(level="info", code="test", text=text)


def add(directory: Path, data: bytes) -> None:
    (directory / FILE).write_bytes((directory / FILE).read_bytes() + data)


@pytest.fixture
def directory(tmp_path) -> Path:
    return tmp_path / "20260101-000000-aaaaaa"


async def written(directory: Path, count: int) -> bytes:
    journal = Journal.create(directory, redactor=PLAIN)
    await journal.append_many([notice(f"entry {number}") for number in range(1, count + 1)])
    journal.close()
    return (directory / FILE).read_bytes()


async def test_entries_come_back_as_they_were_written(directory):
    journal = Journal.create(directory, redactor=PLAIN)
    first = await journal.append(notice("one"))
    second = await journal.append(notice("two"))
    journal.close()
    assert list(read(directory)) == list(read(directory / FILE)) == [first, second]
    assert [record.seq for record in (first, second)] == [1, 2]
    assert first.entry == notice("one")
    assert first.ts <= second.ts
    assert journal.head == Head(2, second.hash)


async def test_files_are_private(directory):
    previous = os.umask(0)
    try:
        await written(directory, 1)
    finally:
        os.umask(previous)
    assert directory.stat().st_mode & 0o777 == 0o700
    for path in directory.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600, path


async def test_a_stranger_can_check_the_chain_from_the_bytes_alone(directory):
    data = await written(directory, 3)
    previous = "0" * 64
    for line in data.splitlines():
        body, _, end = line.rpartition(b',"hash":"')
        assert hashlib.sha256(body).hexdigest() == end.decode().removesuffix('"}')
        parsed = json.loads(line)
        assert parsed["prev"] == previous
        assert list(parsed) == ["v", "seq", "ts", "prev", "entry", "hash"]
        previous = parsed["hash"]
    assert verify(directory, head=previous).ok


async def test_many_appends_at_once_keep_the_order_they_were_asked_in(directory):
    journal = Journal.create(directory, redactor=PLAIN)
    await asyncio.gather(*(journal.append(notice(str(number))) for number in range(50)))
    journal.close()
    assert [record.entry.text for record in read(directory)] == [str(number) for number in range(50)]


async def test_going_on_continues_the_chain(directory):
    await written(directory, 2)
    journal = Journal.open(directory, redactor=PLAIN)
    assert journal.torn is None
    await journal.append(notice("three"))
    journal.close()
    assert verify(directory).lines == 3


async def test_a_journal_without_a_line_yet_can_be_gone_on_with(directory):
    Journal.create(directory).close()
    journal = Journal.open(directory)
    assert journal.head == Head(0, GENESIS)
    journal.close()
    assert verify(directory).ok


async def test_a_second_writer_is_refused_until_the_first_has_closed(directory):
    first = Journal.create(directory)
    with pytest.raises(
        JournalError, match=rf"{directory.name} is open in another process \(pid {os.getpid()}\)"
    ) as held:
        Journal.open(directory)
    assert held.value.code == "locked"
    first.close()
    Journal.open(directory).close()


def test_a_journal_is_created_once_and_opened_only_if_there(directory, tmp_path):
    Journal.create(directory).close()
    with pytest.raises(JournalError, match="has a journal already"):
        Journal.create(directory)
    with pytest.raises(JournalError, match="no session"):
        Journal.open(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(JournalError, match="no journal"):
        Journal.open(tmp_path / "empty")
    with pytest.raises(JournalError, match="there is no journal"):
        next(read(tmp_path / "empty"))


def test_a_planted_link_is_not_written_through(directory, tmp_path):
    directory.mkdir()
    (directory / FILE).symlink_to(tmp_path / "target")
    with pytest.raises(JournalError):
        Journal.create(directory)
    with pytest.raises(JournalError):
        Journal.open(directory)
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_plain_file_is_refused_and_never_waited_for(directory, make):
    directory.mkdir()
    make(directory / FILE)
    for take in (Journal.open, verify, lambda path: list(read(path))):
        with pytest.raises(JournalError, match="failed"):
            take(directory)


async def test_a_closed_journal_takes_nothing(directory):
    journal = Journal.create(directory)
    journal.close()
    journal.close()
    with pytest.raises(JournalError) as closed:
        await journal.append(notice())
    assert closed.value.code == "closed"


@pytest.mark.parametrize(
    "tail", [b'{"v":1,"seq":4,"ts":"20', b"\0" * 5000, b'{"v":1,"seq"\n', b"\0\0\0\n", b"\xff\xfe"]
)
async def test_a_torn_tail_is_cut_off_kept_and_reported(directory, tail):
    data = await written(directory, 3)
    (directory / FILE).write_bytes(data + tail)
    assert len(list(read(directory))) == 3
    verdict = verify(directory)
    assert (verdict.ok, verdict.lines, verdict.torn_bytes) == (True, 3, len(tail))
    journal = Journal.open(directory, redactor=PLAIN)
    assert journal.torn is not None
    assert journal.torn.size == len(tail)
    assert journal.torn.kept.read_bytes() == tail
    assert journal.torn.kept.stat().st_mode & 0o777 == 0o600
    await journal.append(notice("after"))
    journal.close()
    assert (directory / FILE).read_bytes().startswith(data)
    assert verify(directory).lines == 4


async def test_a_cut_anywhere_leaves_a_journal_that_opens(directory):
    data = await written(directory, 2)
    first = data.index(b"\n") + 1
    for length in {*range(0, len(data), 17), first - 1, first, first + 1, len(data) - 1}:
        (directory / FILE).write_bytes(data[:length])
        journal = Journal.open(directory)
        journal.close()
        assert (directory / FILE).read_bytes() == (b"" if length < first else data[:first])


def edited(lines: list[bytes]) -> list[bytes]:
    return [lines[0], lines[1].replace(b"entry 2", b"entry X"), *lines[2:]]


def rehashed(lines: list[bytes]) -> list[bytes]:
    body = lines[1].replace(b"entry 2", b"entry X").rpartition(b',"hash":"')[0]
    return [lines[0], body + b',"hash":"' + hashlib.sha256(body).hexdigest().encode() + b'"}\n', *lines[2:]]


def respaced(lines: list[bytes]) -> list[bytes]:
    return [lines[0], lines[1].replace(b'"v":1,', b'"v": 1,'), *lines[2:]]


@pytest.mark.parametrize(
    ("damage", "line", "reason"),
    [
        (edited, 2, "does not match its hash"),
        (rehashed, 3, "does not follow the line before"),
        (respaced, 2, "does not match its hash"),
        (lambda lines: [lines[0], *lines[2:]], 2, "numbered 3, and 2 was expected"),
        (lambda lines: [lines[0], lines[2], lines[1], lines[3]], 2, "numbered 3"),
        (lambda lines: lines[1:], 1, "numbered 2, and 1 was expected"),
        (lambda lines: [lines[0], lines[1][:50], *lines[2:]], 2, "not JSON"),
        (lambda lines: [lines[0], lines[1][:50] + b"\n", *lines[2:]], 2, "not JSON"),
        (lambda lines: [lines[0], lines[0], *lines[1:]], 2, "numbered 1, and 2 was expected"),
        (lambda lines: [lines[0], b"\n", *lines[1:]], 2, "not JSON"),
        (lambda lines: [lines[0], b"[]\n", *lines[1:]], 2, "not an entry of version 1"),
        (
            lambda lines: [lines[0], lines[1].replace(b'"info"', b'"loud"'), *lines[2:]],
            2,
            "entry.notice.level",
        ),
        (lambda lines: [*lines[:3], lines[3].replace(b"entry 4", b"entry X")], 4, "does not match its hash"),
    ],
)
async def test_damage_before_the_end_is_found_named_and_never_cut(directory, damage, line, reason):
    data = await written(directory, 4)
    damaged = b"".join(damage(data.splitlines(keepends=True)))
    (directory / FILE).write_bytes(damaged)
    verdict = verify(directory)
    assert (verdict.ok, verdict.first_bad_line, verdict.lines) == (False, line, line - 1)
    assert reason in verdict.reason
    with pytest.raises(JournalError, match=f"line {line}: .*{reason}") as found:
        Journal.open(directory)
    assert found.value.code == "corrupt"
    assert f"usermode log {directory.name}" in str(found.value)
    with pytest.raises(JournalError, match=f"line {line}"):
        list(read(directory))
    assert (directory / FILE).read_bytes() == damaged


async def test_a_missing_end_shows_against_a_known_head(directory):
    data = await written(directory, 3)
    head = verify(directory).head_hash
    (directory / FILE).write_bytes(b"".join(data.splitlines(keepends=True)[:2]))
    assert verify(directory).ok
    verdict = verify(directory, head=head)
    assert not verdict.ok
    assert verdict.first_bad_line == 3


async def test_a_newer_version_is_refused_by_name(directory):
    await written(directory, 1)
    newer = b'{"v":2,"seq":2,"new":"shape"}\n'
    add(directory, newer)
    for act in (lambda: Journal.open(directory), lambda: list(read(directory)), lambda: verify(directory)):
        with pytest.raises(JournalError, match="version 2 and this usermode reads version 1") as refused:
            act()
        assert refused.value.code == "version"


async def test_a_line_too_long_to_be_ours_is_not_swallowed(directory, monkeypatch):
    await written(directory, 1)
    add(directory, b"x" * 5000)
    monkeypatch.setattr("harness.journal.reading.MAX_LINE", 4096)
    assert "longer than 4096" in verify(directory).reason


async def test_an_entry_too_large_is_refused_and_the_journal_goes_on(directory, monkeypatch):
    monkeypatch.setattr(module, "MAX_LINE", 4096)
    journal = Journal.create(directory, redactor=PLAIN)
    with pytest.raises(JournalError, match="beyond 4096") as refused:
        await journal.append_many([notice("kept out too"), notice("x" * 5000)])
    assert refused.value.code == "too_large"
    await journal.append(notice("small"))
    journal.close()
    assert [record.entry.text for record in read(directory)] == ["small"]


async def test_secrets_do_not_reach_the_disk(directory):
    journal = Journal.create(directory, redactor=Redactor({"A_KEY": "hunter2-hunter2"}))
    call = Call(
        id="c",
        name="bash",
        arguments={"hunter2-hunter2": "echo hunter2-hunter2"},
        malformed="hunter2-hunter2",
    )
    thought = Thinking(text="hunter2-hunter2", provider="p", block={})
    record = await journal.append(MessageAdded(message=Message(role="assistant", parts=(thought, call))))
    journal.close()
    assert b"hunter2" not in (directory / FILE).read_bytes()
    assert "hunter2" not in str(record)
    assert record.entry.message.calls[0].malformed == "‹redacted:A_KEY›"


async def test_what_a_provider_wants_back_comes_back_byte_for_byte(directory):
    journal = Journal.create(directory, redactor=Redactor({"A_KEY": "hunter2-hunter2"}))
    # Base64 of a signature looks like a credential every so often, and so may an id.
    shape = "ghp_" + "a1" * 18
    block = {"signature": f"+/{shape}==", "more": [shape, {"é": [0.1, None]}]}
    thought = Thinking(text=shape, provider="p", block=block)
    call = Call(id=shape, name="bash", arguments={"command": shape})
    await journal.append(MessageAdded(message=Message(role="assistant", parts=(thought, call))))
    await journal.append(
        CallOutcome(result=Result(call_id=shape, name="bash", content=shape), duration_s=0.0)
    )
    journal.close()
    message, outcome = (record.entry for record in read(directory))
    kept, made = message.message.parts
    assert json.dumps(kept.block) == json.dumps(block)
    assert made.id == outcome.result.call_id == shape
    for redacted in (kept.text, made.arguments["command"], outcome.result.content):
        assert redacted == "‹redacted:pattern›"


async def test_a_known_secret_does_not_reach_the_disk_in_a_thinking_block_either(directory):
    journal = Journal.create(directory, redactor=Redactor({"A_KEY": "hunter2-hunter2"}))
    thought = Thinking(provider="p", block={"thinking": "it is hunter2-hunter2", "hunter2-hunter2": 1})
    await journal.append(MessageAdded(message=Message(role="assistant", parts=(thought,))))
    journal.close()
    assert b"hunter2" not in (directory / FILE).read_bytes()


async def test_without_a_redactor_the_hosts_own_secrets_are_redacted(directory, monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", "canary-canary")
    journal = Journal.create(directory)
    await journal.append(notice("canary-canary"))
    journal.close()
    assert b"canary" not in (directory / FILE).read_bytes()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=())), inner),
    max_leaves=10,
)


TEXT = st.text(st.characters(exclude_categories=()))
OBJECT = st.dictionaries(TEXT, JSON, max_size=3)
CALL = st.builds(Call, id=TEXT, name=TEXT, arguments=OBJECT, malformed=st.none() | TEXT)
RESULT = st.builds(Result, call_id=TEXT, name=TEXT, content=TEXT, error=st.none() | TEXT)
PARTS = st.one_of(
    st.builds(Text, text=TEXT), st.builds(Thinking, text=TEXT, provider=TEXT, block=OBJECT), CALL, RESULT
)
MESSAGE = st.builds(Message, parts=st.lists(PARTS, max_size=3).map(tuple))
ENTRIES = st.one_of(
    st.builds(SessionStarted, task=TEXT, policy=OBJECT),
    st.builds(WorkspaceCopied, excluded=st.lists(TEXT, max_size=3).map(tuple)),
    st.builds(SandboxOpened, ref=TEXT),
    st.builds(MessageAdded, message=MESSAGE, usage=st.none() | st.builds(Usage)),
    st.builds(CallIntent, call=CALL, rule=TEXT),
    st.builds(CallOutcome, result=RESULT, details=OBJECT),
    st.builds(Notice, text=TEXT),
    st.builds(SessionEnded, reason=TEXT),
)


@given(ENTRIES)
def test_whatever_is_written_is_read_back_as_append_said(entry):
    line, record = encode(Head(), drafted(PLAIN.plain(entry)))
    assert line.count(b"\n") == 1
    assert json.loads(line)["entry"]["kind"] == entry.kind
    # By their spelling, in which NaN equals itself.
    assert repr(decode(line, Head())) == repr(record)
    assert PLAIN.plain(record.entry) == PLAIN.plain(entry)


@pytest.mark.parametrize(
    "entry",
    [
        Notice.model_construct(level="loud", code="x", text="x"),
        Notice.model_construct(level="info", code="x", text=None),
        Notice.model_construct(kind="unheard_of", level="info", code="x", text="x"),
        CallOutcome(result=Result(call_id="c", name="x", content=""), duration_s=0).model_copy(
            update={"duration_s": 1 << 5000}
        ),
    ],
)
async def test_what_could_not_be_read_back_is_not_written(directory, entry):
    journal = Journal.create(directory, redactor=PLAIN)
    with pytest.raises(BadLine, match="not an entry of version 1"):
        await journal.append_many([notice("kept out too"), entry])
    await journal.append(notice("good"))
    journal.close()
    assert [record.entry.text for record in read(directory)] == ["good"]


async def test_nesting_without_end_does_not_make_a_journal_unreadable(directory):
    deep: object = 0
    for _ in range(20_000):
        deep = {"d": [deep]}
    journal = Journal.create(directory, redactor=PLAIN)
    await journal.append(
        MessageAdded(
            message=Message(role="assistant", parts=(Call(id="c", name="x", arguments={"a": deep}),))
        )
    )
    journal.close()
    assert verify(directory).lines == 1


class Faults:
    """Stands in for `os` in the journal: a call fails after some bytes, once or for good."""

    def __init__(self, monkeypatch, **failing: list[object]) -> None:
        self.failing = failing
        monkeypatch.setattr(module, "os", self)

    def __getattr__(self, name: str) -> object:
        real = getattr(os, name)
        plan = self.failing.get(name, [])

        def call(*args):
            step = plan.pop(0) if plan else None
            if isinstance(step, int) and name == "write":
                return real(args[0], bytes(args[1])[:step])
            if isinstance(step, OSError):
                raise step
            return real(*args)

        return call if name in self.failing else real


FULL = OSError(errno.ENOSPC, "No space left on device")
BROKEN = OSError(errno.EIO, "Input/output error")


@pytest.mark.parametrize("failing", [{"write": [FULL]}, {"write": [40, 5, FULL]}, {"fdatasync": [FULL]}])
async def test_a_full_disk_is_said_at_once_and_leaves_no_half_line(directory, monkeypatch, failing):
    journal = Journal.create(directory, redactor=PLAIN)
    await journal.append(notice("before"))
    Faults(monkeypatch, **failing)
    with pytest.raises(JournalError, match="disk full") as full:
        await journal.append(notice("lost"))
    assert full.value.code == "disk_full"
    assert [record.entry.text for record in read(directory)] == ["before"]
    assert verify(directory).torn_bytes == 0
    await journal.append(notice("after room was made"))
    journal.close()
    assert verify(directory).lines == 2


@pytest.mark.parametrize(
    "failing",
    [
        {"write": [BROKEN]},
        {"write": [40, BROKEN]},
        {"fdatasync": [BROKEN]},
        {"write": [40, FULL], "ftruncate": [BROKEN]},
        {"fdatasync": [FULL, BROKEN]},
    ],
)
async def test_after_an_error_that_leaves_doubt_nothing_more_is_taken(directory, monkeypatch, failing):
    journal = Journal.create(directory, redactor=PLAIN)
    await journal.append(notice("before"))
    Faults(monkeypatch, **failing)
    with pytest.raises(JournalError):
        await journal.append(notice("lost"))
    monkeypatch.undo()
    with pytest.raises(JournalError):
        await journal.append(notice("refused"))
    journal.close()
    assert [record.entry.text for record in read(directory)][:1] == ["before"]
    reopened = Journal.open(directory, redactor=PLAIN)
    await reopened.append(notice("again"))
    reopened.close()
    assert verify(directory).ok


async def test_short_writes_are_continued(directory, monkeypatch):
    journal = Journal.create(directory, redactor=PLAIN)
    Faults(monkeypatch, write=[1, 10, 7])
    await journal.append(notice("whole"))
    journal.close()
    assert [record.entry.text for record in read(directory)] == ["whole"]


async def test_an_append_that_is_cancelled_while_it_writes_is_written_all_the_same(directory, monkeypatch):
    journal = Journal.create(directory, redactor=PLAIN)
    writing, go_on = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    real = module._write_all

    def slow(fd, data):
        loop.call_soon_threadsafe(writing.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result()
        real(fd, data)

    monkeypatch.setattr(module, "_write_all", slow)
    told = []
    task = asyncio.create_task(journal.append_many([notice("cancelled")], told.extend))
    await writing.wait()
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [record.entry.text for record in told] == ["cancelled"]
    monkeypatch.undo()
    await journal.append(notice("next"))
    journal.close()
    assert [record.entry.text for record in read(directory)] == ["cancelled", "next"]


WRITE_FOREVER = """
import asyncio, sys
from pathlib import Path
from harness.events import Notice
from harness.journal.writer import Journal
async def main():
    journal = Journal.create(Path(sys.argv[1]))
    number = 0
    while True:
        number += 1
        await journal.append(Notice(level="info", code="n", text=str(number) + "x" * 3000))
        print(number, flush=True)
asyncio.run(main())
"""


async def test_what_was_acknowledged_survives_a_kill(directory):
    writer = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WRITE_FOREVER, str(directory), stdout=subprocess.PIPE
    )
    assert writer.stdout is not None
    for _ in range(40):
        await writer.stdout.readline()
    writer.send_signal(signal.SIGKILL)
    rest, _ = await writer.communicate()
    acknowledged = 40 + rest.count(b"\n")
    journal = Journal.open(directory)
    journal.close()
    assert acknowledged <= journal.head.seq <= acknowledged + 1
    assert verify(directory).ok
