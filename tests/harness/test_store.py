"""The store: private directories, ids that cannot be used as paths, status from what is on the disk."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from journal_double import first_entry

from harness.errors import JournalError, UsageError
from harness.events import ChildOf, MessageAdded, PromptDropped, PromptQueued, SessionEnded
from harness.journal.lock import LOCK
from harness.journal.record import FILE
from harness.journal.writer import Journal
from harness.messages import Message, Text, Usage, user
from harness.rows import row_of
from harness.store import SESSION_ID, Store, home
from sandbox import owner


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "state")


PROMPT_TEXT = '"entry":{"kind":"prompt_queued","prompt":"q9"'


def ended(status="done", changes=3) -> SessionEnded:
    return SessionEnded(status=status, exit_code=0, reason="", turns=2, usage=Usage(), changes=changes)


def reply() -> MessageAdded:
    return MessageAdded(message=Message(role="assistant", parts=(Text(text="hello"),)), usage=Usage())


async def session_with(store: Store, *entries) -> Path:
    directory = store.new_session()
    journal = Journal.create(directory)
    await journal.append_many([first_entry(directory.name, "fix it\nplease"), *entries])
    journal.close()
    return directory


async def test_the_last_session_is_the_users_own_not_one_that_it_started(store):
    own = await session_with(store, ended())
    child = store.new_session()
    journal = Journal.create(child)
    parent = ChildOf(session=own.name, call_id="call_1", name="tests")
    await journal.append(first_entry(child.name, parent=parent))
    journal.close()
    never_began = store.new_session()
    assert store.session("last") == own
    assert [row.id for row in store.list()] == [own.name, child.name, never_began.name]
    store.remove(own)
    store.remove(never_began)
    assert store.session("last") == child


def test_a_new_session_is_private_and_its_name_is_its_id(store):
    previous = os.umask(0)
    try:
        directory = store.new_session()
    finally:
        os.umask(previous)
    assert SESSION_ID.fullmatch(directory.name)
    assert directory.parent == store.sessions
    for path in (directory, store.sessions, store.home):
        assert path.stat().st_mode & 0o777 == 0o700


def test_open_modes_are_tightened_again(tmp_path):
    store = Store(tmp_path / "state")
    store.sessions.chmod(0o755)
    Store(tmp_path / "state")
    assert store.sessions.stat().st_mode & 0o777 == 0o700


def test_a_home_that_everyone_can_write_is_refused(tmp_path):
    tmp_path.chmod(0o777)
    with pytest.raises(UsageError, match="written by everyone"):
        Store(tmp_path)


def test_a_home_of_another_user_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(UsageError, match="another user"):
        Store(tmp_path)


def test_a_linked_sessions_directory_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "sessions").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="sessions"):
        Store(tmp_path)


def test_home_is_the_variable_or_the_platforms_place():
    assert home({"USERMODE_HOME": "/somewhere"}) == Path("/somewhere")
    assert home({}).name == "usermode"
    with pytest.raises(UsageError, match="absolute"):
        home({"USERMODE_HOME": "relative"})


def test_a_session_is_found_by_its_id_and_by_a_unique_beginning(store):
    for name in ("20260101-000000-aaaaaa", "20260101-000000-ab0000"):
        (store.sessions / name).mkdir()
    assert store.session("20260101-000000-ab").name == "20260101-000000-ab0000"
    assert store.session("20260101-000000-aaaaaa").name == "20260101-000000-aaaaaa"
    with pytest.raises(
        UsageError, match=r"begins 2 sessions: 20260101-000000-aaaaaa, 20260101-000000-ab0000"
    ):
        store.session("20260101")
    with pytest.raises(UsageError, match="no session '2027'"):
        store.session("2027")


@pytest.mark.parametrize(
    "name", ["..", "../x", "/etc", "", ".", "20260101-000000-aaaaaa/..", "a\0b", "-x\n", "x" * 99]
)
def test_a_path_is_not_a_session(store, name):
    (store.sessions / "20260101-000000-aaaaaa").mkdir()
    with pytest.raises(UsageError):
        store.session(name)


def test_links_and_strangers_among_the_sessions_are_not_listed(store, tmp_path):
    (store.sessions / "20260101-000000-aaaaaa").symlink_to(tmp_path)
    (store.sessions / "notes.txt").write_text("x")
    assert store.ids() == []


async def test_last_is_the_session_that_began_last(store):
    with pytest.raises(UsageError, match="no session yet"):
        store.session("last")
    newest = [await session_with(store) for _ in range(5)][-1]
    assert store.session("last") == newest
    assert [row.id for row in store.list()][-1] == newest.name


async def test_a_finished_session_is_listed_with_how_it_ended(store):
    directory = await session_with(store, reply(), ended("budget", changes=7))
    (directory / "workspace").mkdir()
    (row,) = store.list()
    assert (row.id, row.directory) == (directory.name, directory)
    assert (row.status, row.ended, row.turns, row.changes) == ("ended", "budget", 2, 7)
    assert (row.task, row.model) == ("fix it", "scripted:x")
    assert row.started.endswith("Z")


async def test_a_session_whose_process_is_gone_is_interrupted(store):
    await session_with(store, reply(), reply())
    (row,) = store.list()
    assert (row.status, row.turns, row.changes) == ("interrupted", 2, None)


async def test_prompts_that_wait_are_counted_while_it_is_open_and_after_its_end(store):
    said = [PromptQueued(prompt=f"q{n}", when="turn", text=PROMPT_TEXT, by="me") for n in (1, 2, 3)]
    read = MessageAdded(message=user("said"), prompt="q1")
    dropped = PromptDropped(prompt="q2", by="me")
    open_one = await session_with(store, *said, read, dropped)
    assert row_of(open_one).waiting == 1
    over = await session_with(store, *said, ended().model_copy(update={"waiting": 3}))
    assert row_of(over).waiting == 3
    quiet = await session_with(store, MessageAdded(message=user(PROMPT_TEXT)), reply())
    assert row_of(quiet).waiting == 0


async def test_a_torn_tail_hides_neither_the_session_nor_its_end(store):
    directory = await session_with(store, reply(), ended())
    for tail in (b'{"v":1,"se', b'{"v":1,\n'):
        intact = (directory / "journal.jsonl").read_bytes()
        (directory / "journal.jsonl").write_bytes(intact + tail)
        assert row_of(directory).status == "ended"
        (directory / "journal.jsonl").write_bytes(intact)


async def test_an_end_longer_than_one_block_is_read(store):
    await session_with(store, SessionEnded(**{**ended().model_dump(), "reason": "r" * 300_000}))
    assert store.list()[0].status == "ended"


async def test_a_damaged_or_empty_journal_is_still_listed(store):
    damaged = await session_with(store, reply())
    text = (damaged / "journal.jsonl").read_bytes()
    (damaged / "journal.jsonl").write_bytes(b"{}\n" + text)
    empty = store.new_session()
    rows = {row.id: row for row in store.list()}
    assert rows[damaged.name].status == "damaged"
    assert "entry" in rows[damaged.name].note
    assert rows[empty.name].status == "empty"


HOLD = """
import asyncio, sys
from pathlib import Path
from harness.journal.writer import Journal
journal = Journal.open(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_what_stands_in_place_of_a_journal_is_never_waited_for(store):
    directory = store.new_session()
    os.mkfifo(directory / FILE)
    os.mkfifo(directory / LOCK)
    (row,) = store.list()
    assert (row.status, row.note) == ("damaged", "[Errno 22] it is no plain file")


async def test_a_session_held_by_another_process_is_running_and_cannot_be_removed(store):
    directory = await session_with(store)
    holder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLD, str(directory), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert await holder.stdout.readline() == b"held\n"
    assert store.list()[0].status == "running"
    with pytest.raises(JournalError, match=rf"open in another process \(pid {holder.pid}\)"):
        Journal.open(directory)
    with pytest.raises(UsageError, match="open in another process"):
        store.remove(directory)
    holder.kill()
    await holder.communicate()
    assert store.list()[0].status == "interrupted"


async def test_removing_deletes_everything_and_follows_no_link(store, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("x")
    directory = await session_with(store)
    closed = directory / "workspace" / "closed"
    closed.mkdir(parents=True)
    (closed / "file").write_text("x")
    (directory / "workspace" / "link").symlink_to(outside)
    closed.chmod(0)
    store.remove(directory)
    assert store.list() == []
    assert list(store.sessions.iterdir()) == []
    assert (outside / "kept").read_text() == "x"


@pytest.mark.parametrize("path", ["..", "../..", "sessions"])
def test_only_sessions_of_this_store_can_be_removed(store, path):
    with pytest.raises(UsageError, match="not a session"):
        store.remove(store.sessions / path)
    assert store.sessions.is_dir()


def test_interrupted_removals_are_finished(store):
    left = store.sessions / ".removing-20260101-000000-aaaaaa"
    left.mkdir()
    assert store.list() == []
    assert store.sweep() == 1
    assert not left.exists()


def test_a_session_that_was_killed_before_its_first_entry_goes(store):
    killed, young, claimed = (store.new_session() for _ in range(3))
    for directory in (killed, claimed):
        Journal.create(directory).close()
        os.utime(directory, (0, 0))
    owner.claim(claimed)
    os.utime(claimed, (0, 0))
    assert store.sweep() == 1
    assert sorted(store.ids()) == sorted([young.name, claimed.name])


async def test_what_an_ended_session_held_in_reserve_is_given_back(store):
    directory = await session_with(store, ended())
    (directory / "reserve").write_bytes(bytes(10))
    store.sweep()
    assert not (directory / "reserve").exists()
