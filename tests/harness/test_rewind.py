"""`usermode rewind` and `diff --from --to` over a real workspace and a real journal; no engine takes part."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from journal_double import first_entry

from harness.commands.between import between
from harness.commands.changes import diff
from harness.commands.rewind import rewind
from harness.errors import JournalError, UsageError
from harness.events import (
    CallIntent,
    CallOutcome,
    Checkpointed,
    Entry,
    MessageAdded,
    PagesEvicted,
    Rewound,
    SandboxOpened,
    TurnDone,
)
from harness.journal.reading import read, verify
from harness.journal.record import Record
from harness.journal.writer import Journal
from harness.kernel.checkpointing import checkpointing
from harness.memory.rebuild import Rebuild
from harness.messages import Call, Message, Result, Text, user
from harness.process.session import FIRST_EXEC_ID, Session
from harness.recovery.forking import history
from harness.recovery.rebuild import Rebuilder
from harness.recovery.rebuilt import Rebuilt
from harness.rows import row_of
from harness.store import Store
from harness.syscalls.base import Refused
from harness.syscalls.job import JobArguments, job
from policies import load
from sandbox import workspace
from sandbox.checkpoints.rewind import unfinished
from tests.sandbox.checkpoints.tree_double import picture

POLICY = load("strict")


@dataclass
class Past:
    """A session that has ended, and how its tree looked at each checkpoint."""

    directory: Path
    pictures: dict[int, object]

    @property
    def tree(self) -> Path:
        return workspace.storage_of(self.directory).path

    @property
    def said(self) -> list[str]:
        """The conversation in force."""
        told = Rebuilder()
        for record in read(self.directory):
            told.feed(record)
        return [message.text for message in told.rebuilt().session.messages]

    def rewind(self, to: int) -> None:
        assert rewind(self.directory.name, to) == 0


def _change(tree: Path, turn: int) -> None:
    (tree / "a.txt").write_text(f"turn {turn}\n")
    (tree / f"new{turn}").write_text("new\n")
    if turn == 2:
        (tree / "deep" / "b.txt").unlink()
        (tree / "run").chmod(0o755)
        (tree / "link").symlink_to("a.txt")


@pytest.fixture
async def past(tmp_path, monkeypatch):
    """Three turns: 0 is the start, and each turn changed files and was answered."""
    monkeypatch.setenv("USERMODE_HOME", str(tmp_path / "home"))
    project = tmp_path / "project"
    (project / "deep").mkdir(parents=True)
    for name in ("a.txt", "deep/b.txt", "run"):
        (project / name).write_text(f"of {name}\n")
    directory = Store(tmp_path / "home").new_session()
    ids = os.geteuid(), os.getegid()
    limits = POLICY.limits.model_copy(update={"workspace_mb": 64, "workspace_inodes": 5000})
    storage = workspace.prepare(directory, limits, uid=ids[0], gid=ids[1], kind="watched directory")
    workspace.copy_in(project, directory, limits=limits, uid=ids[0], gid=ids[1])
    journal = Journal.create(directory)
    await journal.append_many(
        [
            first_entry(directory.name, policy=POLICY, workspace=str(project)),
            MessageAdded(message=user("begin")),
        ]
    )
    pictures = {}
    async with checkpointing(directory, limits) as checkpoints:
        for turn in range(4):
            if turn:
                _change(storage.path, turn)
            checkpoints.begin(unsettled=False)
            await journal.append_many(await checkpoints.finished())
            pictures[turn] = picture(storage.path)
            answer = Message(role="assistant", parts=(Text(text=f"answer {turn}"),))
            await journal.append_many(
                [MessageAdded(message=answer), MessageAdded(message=user(f"go {turn}"))]
            )
    journal.close()
    yield Past(directory, pictures)
    workspace.discard(directory)


def test_files_and_conversation_are_as_they_were(past, capsys):
    (past.tree / "a.txt").write_text("after the last\n")
    past.rewind(1)
    assert picture(past.tree) == past.pictures[1]
    assert past.said == ["begin", "answer 0", "go 0"]
    last = [record.entry for record in read(past.directory)][-2:]
    assert isinstance(last[0], Checkpointed)
    assert last[0].number == 4  # what there was is kept
    assert isinstance(last[1], Rewound)
    assert last[1].to == 1
    assert verify(past.directory).ok
    assert unfinished(past.directory) is None
    past.rewind(4)
    assert (past.tree / "a.txt").read_text() == "after the last\n"
    assert past.said[-1] == "go 3"
    assert "checkpoint 4" in capsys.readouterr().out


def test_ps_says_that_it_was_taken_back(past):
    past.rewind(2)
    assert row_of(past.directory).status == "rewound"


def test_after_going_back_the_latest_is_what_was_gone_back_to(past, capsys):
    past.rewind(1)
    assert history(read(past.directory), None).checkpoint.number == 1
    capsys.readouterr()
    between(past.directory.name, 0, None, [], stat=True, json=False)
    assert capsys.readouterr().out.startswith("== from checkpoint 0 to 1:")
    past.rewind(3)
    assert history(read(past.directory), None).checkpoint.number == 3


def test_going_back_and_on_and_forward_again(past):
    past.rewind(0)
    assert picture(past.tree) == past.pictures[0]
    assert past.said == ["begin"]
    past.rewind(3)
    assert picture(past.tree) == past.pictures[3]
    assert past.said == ["begin", "answer 0", "go 0", "answer 1", "go 1", "answer 2", "go 2"]
    past.rewind(2)
    assert picture(past.tree) == past.pictures[2]


def test_at_the_start_there_is_nothing_to_review(past, capsys):
    # Also where the user's own file changed meanwhile: the session has no part in that.
    project = past.directory.parents[2] / "project"
    past.rewind(0)
    (project / "a.txt").write_text("the user's own edit\n")
    capsys.readouterr()
    diff(past.directory.name, None)
    assert capsys.readouterr().out == "nothing changed\n"


def test_the_users_directory_is_not_touched(past):
    project = past.directory.parents[2] / "project"
    before = picture(project)
    past.rewind(2)
    past.rewind(0)
    assert picture(project) == before


def test_between_two_checkpoints_text_modes_links_and_deletions_show(past, capsys):
    between(past.directory.name, 1, 2, [], stat=False, json=False)
    shown = capsys.readouterr().out
    for line in ("-turn 1", "+turn 2", "deleted", "deep/b.txt", "# mode", "+a.txt", "new2"):
        assert line in shown
    assert "new1" not in shown
    between(past.directory.name, 0, None, ["deep"], stat=True, json=False)
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()[1:]] == [
        ["deleted", "deep/b.txt"]
    ]
    between(past.directory.name, 2, 2, [], stat=False, json=False)
    assert "nothing changed" in capsys.readouterr().out


def test_one_that_does_not_exist_is_refused_and_nothing_is_touched(past):
    before, lines = picture(past.tree), len(list(read(past.directory)))
    with pytest.raises(UsageError, match="no checkpoint 9"):
        rewind(past.directory.name, 9)
    assert picture(past.tree) == before
    assert len(list(read(past.directory))) == lines


def test_one_that_was_exchanged_is_refused(past):
    store = past.directory / "checkpoints"
    (store / "000001.checkpoint").write_bytes(
        (store / "000002.checkpoint").read_bytes().replace(b'"number": 2', b'"number": 1')
    )
    before = picture(past.tree)
    with pytest.raises(UsageError, match="not the one that the journal tells of"):
        rewind(past.directory.name, 1)
    assert picture(past.tree) == before


def test_a_running_session_is_refused(past):
    journal = Journal.open(past.directory)
    try:
        with pytest.raises(UsageError, match="usermode kill"):
            rewind(past.directory.name, 1)
    finally:
        journal.close()
    assert picture(past.tree) == past.pictures[3]


def test_a_session_on_the_users_own_directory_has_none(past):
    (past.directory / "workspace.bound").write_bytes(b"/somewhere")
    for command in (
        lambda: rewind(past.directory.name, 1),
        lambda: between(past.directory.name, 0, 1, [], stat=True, json=False),
    ):
        with pytest.raises(UsageError, match="your own directory"):
            command()
    (past.directory / "workspace.bound").unlink()


def test_one_that_is_cut_short_is_finished_by_the_same_again(past, monkeypatch):
    with monkeypatch.context() as broken:
        broken.setattr("sandbox.checkpoints.restore.Restore._fill", _full)
        with pytest.raises(UsageError, match="the same again finishes it"):
            rewind(past.directory.name, 1)
    assert unfinished(past.directory) == "1"
    assert past.said[-1] == "go 3"  # not cut before the files are back
    past.rewind(1)
    assert unfinished(past.directory) is None
    assert picture(past.tree) == past.pictures[1]


def _full(*arguments: object, **more: object) -> None:
    raise OSError(28, "No space left on device")


def test_memory_is_told_anew(past):
    """What was put out of the context after the checkpoint is in it again."""
    told = Rebuild(fixed=7)
    message = MessageAdded(message=user("hello"))
    for entry in (
        message,
        Checkpointed(number=0, digest="0" * 64, files=0, bytes=0),
        MessageAdded(message=Message(role="assistant", parts=(Text(text="x"),))),
        PagesEvicted(pages=(), tokens_before=2, tokens_after=1),
        Rewound(to=0, digest="0" * 64, removed=0, made=0),
    ):
        told.feed(entry)
    assert told.messages == [message.message]
    assert told.memory.fixed == 7


def test_a_journal_that_goes_back_to_what_never_was_is_damaged(past):
    told = Rebuild()
    with pytest.raises(JournalError, match="checkpoint 5"):
        told.feed(Rewound(to=5, digest="0" * 64, removed=0, made=0))


def _told(directory: Path, *entries: Entry) -> Session:
    return _rebuilt(directory, *entries).session


def _rebuilt(directory: Path, *entries: Entry) -> Rebuilt:
    told = Rebuilder()
    for seq, entry in enumerate(
        (first_entry(directory.name, policy=POLICY, workspace=str(directory)), *entries), 1
    ):
        told.feed(Record(seq, "2026-11-22T12:00:00.000000Z", entry, "0" * 64))
    return told.rebuilt()


def _called(number: int, name: str, arguments: dict[str, object], **details: object) -> list[Entry]:
    call = Call(id=f"c{number}", name=name, arguments=arguments)
    exec_id = f"{FIRST_EXEC_ID + number:016x}"
    return [
        MessageAdded(message=Message(role="assistant", parts=(call,))),
        CallIntent(call=call, exec_id=exec_id, decision="allow"),
        CallOutcome(result=Result(call_id=call.id, name=name, content=""), duration_s=0, details=details),
    ]


def _kept(number: int) -> Checkpointed:
    return Checkpointed(number=number, digest="0" * 64, files=1, bytes=1)


def test_the_directory_the_plan_and_the_jobs_are_as_they_were(tmp_path):
    steps = [{"step": "look", "status": "done"}]
    session = _told(
        tmp_path,
        MessageAdded(message=user("begin")),
        *_called(1, "plan", {"steps": steps}),
        *_called(2, "bash", {"command": "cd src; make &"}, cwd="/workspace/src", processes_left=1),
        *_called(3, "bash", {"command": "serve"}, running=True),
        _kept(1),
        *_called(4, "plan", {"steps": [*steps, {"step": "leap", "status": "pending"}]}),
        *_called(5, "bash", {"command": "cd /tmp"}, cwd="/tmp"),
        *_called(6, "bash", {"command": "other"}, running=True),
        *_called(7, "job", {"action": "kill", "job": "job-2"}, job="job-2", running=False),
        _kept(2),
        Rewound(to=1, digest="0" * 64, removed=0, made=0),
    )
    assert session.cwd == "/workspace/src"
    assert [step.step for step in session.plan] == ["look"]
    # They ended with their container; what the model then knew of them stands.
    assert {name: (job.command, job.done is not None, job.runs) for name, job in session.jobs.items()} == {
        "job-1": ("cd src; make &", True, False),
        "job-2": ("serve", False, False),
    }
    # No number comes twice, whatever was taken back.
    assert session.next_exec_id() == f"{FIRST_EXEC_ID + 8:016x}"


def test_calls_that_were_over_are_not_made_again_and_one_that_was_cut_short_is_unknown(tmp_path):
    """The results that a checkpoint comes after are no open calls; those that were open still are."""
    done = [MessageAdded(message=user("begin")), *_called(1, "bash", {"command": "effect"}), _kept(1)]
    cut = [*_called(2, "bash", {"command": "other"})[:2], _kept(2)]
    back = Rewound(to=1, digest="0" * 64, removed=0, made=0)
    assert _rebuilt(tmp_path, *done, *cut, back).open == ()
    forward = _rebuilt(tmp_path, *done, *cut, back, Rewound(to=2, digest="0" * 64, removed=0, made=0))
    (one,) = forward.open
    assert one.call.id == "c2"
    assert one.intent is not None


async def test_a_job_whose_container_is_gone_is_said_to_have_ended(tmp_path):
    session = _told(
        tmp_path,
        SandboxOpened(ref="one"),
        *_called(1, "bash", {"command": "serve", "background": True}, running=True),
        SandboxOpened(ref="two"),
    )
    context = SimpleNamespace(session=session)
    for action in ("poll", "kill", "input"):
        with pytest.raises(Refused, match="ended with the container"):
            await job(context, JobArguments(action=action, job="job-1", input="x"))


def cancelled_and_kept():
    """A turn that the user cancelled, and another one begun."""
    call = Call(id="call_1", name="bash", arguments={"command": "make"})
    entries = (
        first_entry("s", task="", policy=POLICY),
        MessageAdded(message=user("build it"), prompt="q1"),
        MessageAdded(message=Message(role="assistant", parts=(call,)), stop="calls"),
        CallOutcome(
            result=Result(call_id="call_1", name="bash", content="", error="cancelled"), duration_s=1
        ),
        Checkpointed(number=1, digest="0" * 64, files=1, bytes=1, left_out=0, unsettled=False),
        TurnDone(status="interrupted", reason="the turn was cancelled by the user"),
        MessageAdded(message=user("something else"), prompt="q2"),
        Checkpointed(number=2, digest="0" * 64, files=1, bytes=1, left_out=0, unsettled=False),
    )
    return [Record(seq, "2026-01-01T00:00:00.000000Z", entry, "") for seq, entry in enumerate(entries, 1)]


def rebuilt(records):
    told = Rebuilder()
    for record in records:
        told.feed(record)
    return told.rebuilt()


def test_a_turn_that_was_cancelled_is_not_begun_again_by_going_back_to_its_end():
    back = Rewound(to=1, digest="0" * 64, removed=0, made=0)
    past = rebuilt([*cancelled_and_kept(), Record(9, "2026-01-01T00:00:01.000000Z", back, "")])
    assert [message.text for message in past.session.messages if message.role == "user"] == ["build it"]
    assert past.rested


@pytest.mark.parametrize(("at", "prompts", "rested"), [(1, 1, True), (2, 2, False), (None, 2, False)])
def test_nor_by_a_fork_of_its_end(at, prompts, rested):
    entries = history(cancelled_and_kept(), at).begin("t", "0")
    past = rebuilt(Record(seq, "2026-01-01T00:00:00.000000Z", one, "") for seq, one in enumerate(entries, 1))
    assert sum(message.role == "user" for message in past.session.messages) == prompts
    assert past.rested == rested
