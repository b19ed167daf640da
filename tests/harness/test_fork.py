"""`usermode fork` over a real workspace and a real journal; no engine takes part."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import pytest
import test_rewind
from journal_double import first_entry
from test_rewind import POLICY, Past

from harness.commands.between import between
from harness.commands.changes import ApplyOptions, diff, discard
from harness.commands.changes import apply as apply_command
from harness.commands.fork import fork
from harness.commands.rewind import rewind
from harness.errors import JournalError, UsageError
from harness.events import Checkpointed, GrantChanged, MessageAdded, Resumed, Rewound, SessionStarted
from harness.journal.reading import read, verify
from harness.journal.writer import Journal
from harness.messages import user
from harness.recovery.forking import history
from harness.recovery.rebuild import Rebuilder
from harness.rows import row_of
from harness.store import Store
from sandbox import workspace
from sandbox.checkpoints.errors import CheckpointError
from sandbox.checkpoints.planting import begin, plant
from sandbox.checkpoints.restore import Restore
from sandbox.checkpoints.share import link
from sandbox.errors import SandboxRefused
from sandbox.workspace.quota import exact_unavailable, mounted_sessions, promised
from tests.sandbox.checkpoints.tree_double import picture

source = test_rewind.past
PLANTING = "sandbox.checkpoints.planting"


@pytest.fixture
def forked(source, capsys):
    """A factory: the session forked of `source` at a checkpoint."""
    made = []

    def make(at: int | None) -> Past:
        capsys.readouterr()
        assert fork(source.directory.name, at) == 0
        name = capsys.readouterr().out.split(":")[0]
        made.append(source.directory.parent / name)
        return Past(made[-1], source.pictures)

    yield make
    for directory in made:
        workspace.discard(directory)


def seen(session: Past) -> object:
    plant(session.directory)
    with workspace.opened(session.directory) as tree:
        return picture(tree)


def test_it_has_the_files_and_the_conversation_of_that_moment(source, forked):
    before = picture(source.tree), [record.hash for record in read(source.directory)]
    fork_of_1 = forked(1)
    assert seen(fork_of_1) == source.pictures[1]
    assert fork_of_1.said == ["begin", "answer 0", "go 0"]
    assert verify(fork_of_1.directory).ok
    assert (picture(source.tree), [record.hash for record in read(source.directory)]) == before
    first = next(read(fork_of_1.directory)).entry
    assert isinstance(first, SessionStarted)
    assert first.session == fork_of_1.directory.name
    assert first.forked is not None
    assert (first.forked.session, first.forked.checkpoint) == (source.directory.name, 1)
    assert first.forked.head in before[1]
    row = row_of(fork_of_1.directory)
    assert (row.status, row.task) == ("forked", "t")
    assert fork_of_1.directory not in mounted_sessions(source.directory.parent)
    assert forked(None).said[-1] == "go 2"  # the latest


def test_a_running_source_is_only_read(source, forked):
    journal = Journal.open(source.directory)
    try:
        assert seen(forked(2)) == source.pictures[2]
    finally:
        journal.close()


def test_it_lives_on_when_the_source_is_removed(source, forked):
    one = forked(2)
    workspace.discard(source.directory)
    shutil.rmtree(source.directory)
    one.rewind(1)
    assert seen(one) == source.pictures[1]
    one.rewind(0)
    assert seen(one) == source.pictures[0]
    assert one.said == ["begin"]
    two = fork(one.directory.name, 1)
    assert two == 0


def test_what_is_reviewed_is_what_differs_from_the_users_directory(source, forked, capsys):
    project = source.directory.parents[2] / "project"
    one = forked(1)
    diff(one.directory.name, None)
    shown = capsys.readouterr().out
    assert "+turn 1" in shown
    assert "new1" in shown
    assert "deep/b.txt" not in shown  # as it was copied in
    assert re.search("not applied|conflict", shown) is None
    between(one.directory.name, 0, 1, [], stat=True, json=False)
    assert "a.txt" in capsys.readouterr().out
    apply_command(one.directory.name, None, ApplyOptions(False, False, False, False))
    assert (project / "a.txt").read_text() == "turn 1\n"
    assert (project / "deep" / "b.txt").exists()


def test_one_that_was_collected_is_refused_with_those_that_the_source_has(source, forked):
    (source.directory / "checkpoints" / "000001.checkpoint").unlink()
    before = Store(source.directory.parents[1]).ids()
    with pytest.raises(UsageError, match=r"no checkpoint 1; .* 0, 2, 3$"):
        fork(source.directory.name, 1)
    assert Store(source.directory.parents[1]).ids() == before


def test_at_the_start_there_is_nothing_to_review(forked, capsys):
    one = forked(0)
    diff(one.directory.name, None)
    assert capsys.readouterr().out == "nothing changed\n"


def test_what_the_source_applied_since_is_no_licence_to_overwrite_it(source, forked, capsys):
    apply_command(source.directory.name, None, ApplyOptions(False, False, False, False))
    one = forked(1)
    capsys.readouterr()
    diff(one.directory.name, None)
    assert "# conflict: was changed in your directory" in capsys.readouterr().out


async def test_what_was_spent_and_allowed_stays_with_the_source(tmp_path):
    started = first_entry(tmp_path.name, policy=POLICY, workspace=str(tmp_path))
    journal = Journal.create(tmp_path / "a")
    given = GrantChanged(grant="g1", change="given", what="x", binding="b", scope="session", until=None)
    await journal.append_many([
        started, MessageAdded(message=user("hello")), given,
        Checkpointed(number=0, digest="0" * 64, files=0, bytes=0),
        MessageAdded(message=user("undone")),
        Checkpointed(number=1, digest="0" * 64, files=0, bytes=0),
        Rewound(to=0, digest="0" * 64, removed=0, made=0),
        MessageAdded(message=user("again")),
        Checkpointed(number=2, digest="1" * 64, files=0, bytes=0),
    ])  # fmt: skip
    journal.close()
    past = history(read(tmp_path / "a"), 2)
    assert past.numbers == {0, 2}
    copied = [entry.message.text for entry in past.entries if isinstance(entry, MessageAdded)]
    assert copied == ["hello", "again"]
    assert not any(isinstance(entry, GrantChanged | Rewound) for entry in past.entries)
    # A checkpoint that was taken back can still be forked, with what was said until then.
    told = [
        entry.message.text
        for entry in history(read(tmp_path / "a"), 1).entries
        if isinstance(entry, MessageAdded)
    ]
    assert told == ["hello", "undone"]
    whole = Journal.create(tmp_path / "b")
    records = await whole.append_many(past.begin("b", "0"))
    whole.close()
    rebuilder = Rebuilder()
    for record in records[:-1]:
        rebuilder.feed(record)
    with pytest.raises(JournalError, match="cut short"):
        rebuilder.rebuilt()
    rebuilder.feed(records[-1])
    rebuilt = rebuilder.rebuilt()
    assert rebuilt.planted
    assert rebuilt.session.budget.turns == 0
    with pytest.raises(UsageError, match="checkpoint 7"):
        history(read(tmp_path / "a"), 7)


async def test_it_asks_the_model_that_was_asked_at_that_time(tmp_path):
    journal = Journal.create(tmp_path / "a")
    here = {"by": "me", "model": "openai-chat:local", "service": "http://localhost:1/v1"}
    await journal.append_many([
        first_entry(tmp_path.name, policy=POLICY, workspace=str(tmp_path)),
        Checkpointed(number=0, digest="0" * 64, files=0, bytes=0),
        MessageAdded(message=user("hello")),
        Resumed(harness_version="0", **here),
        Checkpointed(number=1, digest="1" * 64, files=0, bytes=0),
    ])  # fmt: skip
    journal.close()
    asked = [history(read(tmp_path / "a"), number).started for number in (0, 1)]
    assert [(one.model, one.service) for one in asked] == [
        (asked[0].model, None),
        ("openai-chat:local", "http://localhost:1/v1"),
    ]
    assert asked[0].model != "openai-chat:local"


def test_what_cannot_be_made_leaves_nothing(source, monkeypatch):
    home = source.directory.parents[1]
    before = Store(home).ids()
    with pytest.raises(UsageError, match="does not know of checkpoint 9"):
        fork(source.directory.name, 9)
    for pack in (source.directory / "checkpoints").glob("*.pack"):
        pack.unlink()
    with pytest.raises(UsageError, match="damaged"):
        fork(source.directory.name, 1)
    assert Store(home).ids() == before


def test_its_files_are_made_when_they_are_first_wanted(source, forked, capsys):
    one = forked(1)
    assert promised(one.directory)
    assert not (one.directory / "workspace").exists()
    # What needs no files makes none.
    between(one.directory.name, 0, 1, [], stat=True, json=False)
    two = forked(1)
    assert fork(one.directory.name, None) == 0
    assert promised(one.directory)
    diff(one.directory.name, None)
    assert "+turn 1" in capsys.readouterr().out
    assert not promised(one.directory)
    one.rewind(0)
    assert seen(one) == source.pictures[0]
    two.rewind(0)
    assert seen(two) == source.pictures[0]


WORKSPACE = "sandbox.workspace"
KILLS = [
    f"{PLANTING}._fill",
    f"{WORKSPACE}.beneath.write_all",
    f"{WORKSPACE}.manifest.save",
    f"{PLANTING}._kept",
]
if exact_unavailable() is None:
    KILLS += [f"{WORKSPACE}.quota._make_image", f"{WORKSPACE}.quota._mount"]


@pytest.mark.parametrize("where", KILLS)
def test_one_cut_short_is_shown_to_nobody_and_made_anew(where, source, forked, monkeypatch, capsys):
    """Killed while its files are made: what is missing there must not look deleted, and be applied."""
    one = forked(3)
    project = source.directory.parents[2] / "project"
    before = picture(project)
    killed = os.fork()
    if not killed:
        monkeypatch.setattr(where, lambda *arguments: os._exit(9))
        plant(one.directory)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(killed, 0)[1]) == 9
    assert promised(one.directory)
    for look in (workspace.changes, workspace.apply):
        with pytest.raises(SandboxRefused, match="not made yet"):
            look(one.directory)
    assert picture(project) == before
    diff(one.directory.name, None, stat=True)
    assert "deep/b.txt" in capsys.readouterr().out  # deleted in turn 2, by itself
    assert not promised(one.directory)
    assert seen(one) == source.pictures[3]
    assert one.directory not in mounted_sessions(source.directory.parent)


@pytest.mark.skipif(exact_unavailable() is not None, reason=f"no images: {exact_unavailable()}")
def test_all_of_it_is_on_the_disk_before_the_promise_goes(source, forked, monkeypatch, tmp_path):
    one, cut = forked(3), tmp_path / "cut"
    (cut / "workspace").mkdir(parents=True)

    def power_cut(directory):
        # What the disk holds while all is still mounted.
        image = "workspace.img"
        subprocess.run(["cp", "--sparse=always", directory / image, cut / image], check=True)

    monkeypatch.setattr(f"{PLANTING}._kept", power_cut)
    filling = begin(one.directory)
    assert filling is not None
    filling()
    with workspace.opened(cut) as tree:
        assert picture(tree) == source.pictures[3]


def test_what_cannot_be_made_stays_promised(source, forked, monkeypatch, capsys):
    one = forked(1)
    with monkeypatch.context() as broken:
        broken.setattr(Restore, "_fill", _full)
        with pytest.raises(SandboxRefused, match=r"checkpoint 1: .*No space left.* try again"):
            diff(one.directory.name, None)
    with monkeypatch.context() as broken:
        broken.setattr("sandbox.workspace.hostdisk._free", lambda path: 0)
        with pytest.raises(SandboxRefused, match=r"the disk of .* is nearly full"):
            diff(one.directory.name, None)
    assert one.directory not in mounted_sessions(source.directory.parent)
    assert seen(one) == source.pictures[1]


def test_it_is_made_of_what_was_promised_or_not_at_all(source, forked):
    one = forked(1)
    checkpoints = one.directory / "checkpoints"
    (checkpoints / "000000.checkpoint").rename(checkpoints / "000001.checkpoint")
    with pytest.raises(SandboxRefused, match=r"checkpoint 1 is not the one that was promised"):
        plant(one.directory)
    (one.directory / "workspace.promised").write_text("{}")
    with pytest.raises(SandboxRefused, match="what the workspace is to be made of cannot be read"):
        plant(one.directory)


def test_a_dropped_one_is_not_made_again(source, forked):
    one = forked(1)
    discard(one.directory.name)
    plant(one.directory)
    assert not (one.directory / "workspace").exists()
    with pytest.raises(UsageError, match="they were dropped"):
        diff(one.directory.name, None)
    with pytest.raises(UsageError, match="discarded"):
        fork(one.directory.name, None)


def test_nobody_makes_it_while_the_session_is_started(source, forked):
    one = forked(1)
    journal = Journal.open(one.directory)
    try:
        with pytest.raises(UsageError, match="open in another process"):
            diff(one.directory.name, None)
    finally:
        journal.close()
    assert promised(one.directory)


def _full(*arguments: object, **more: object) -> None:
    raise OSError(28, "No space left on device")


def test_packs_that_are_collected_meanwhile_are_found_again(source, tmp_path, monkeypatch):
    store = source.directory / "checkpoints"
    real = os.link
    moved = []

    def collected(path, target, **options):
        if not moved and str(path).endswith(".pack"):
            moved.append(path)
            path.rename(store / "ffffffff.pack")
        real(path, target, **options)

    monkeypatch.setattr("os.link", collected)
    target = tmp_path / "other"
    target.mkdir()
    link(source.directory, target, [0, 1])
    assert (target / "checkpoints" / "ffffffff.pack").exists()
    monkeypatch.setattr("os.link", lambda *a, **k: (_ for _ in ()).throw(FileNotFoundError()))
    with pytest.raises(CheckpointError, match="being collected"):
        link(source.directory, target, [0])


def test_a_session_on_the_users_own_directory_cannot_be_forked(source):
    (source.directory / "workspace.bound").write_bytes(b"/somewhere")
    with pytest.raises(UsageError, match="your own directory"):
        fork(source.directory.name, 1)
    (source.directory / "workspace.bound").unlink()


def test_going_back_in_a_fork_leaves_the_source_alone(source, forked):
    one = forked(3)
    rewind(one.directory.name, 1)
    assert seen(one) == source.pictures[1]
    assert picture(source.tree) == source.pictures[3]
    source.rewind(2)
    assert seen(one) == source.pictures[1]
