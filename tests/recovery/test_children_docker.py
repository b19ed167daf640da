"""Children in real containers: two at once over a real workspace, merged; and their harness killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest
from left import warm_home

from harness.boot.parts import RunOptions
from harness.boot.resume import ResumeOptions, resume
from harness.boot.start import run
from harness.commands.fork import fork
from harness.errors import UsageError
from harness.events import CallOutcome, ChildStarted, SessionEnded, SessionStarted
from harness.journal.reading import read
from harness.process.interrupt import Interrupt
from harness.store import Store
from policies import load
from sandbox.checkpoints.store import Store as Checkpoints
from sandbox.engine import Engine
from sandbox.owner import SESSION
from sandbox.workspace import changes
from sandbox.workspace.quota import mounted_sessions

pytestmark = pytest.mark.docker


def call(syscall, **arguments):
    return {"name": syscall, "arguments": arguments}


def written(tmp_path, *lines):
    script = tmp_path / "script.jsonl"
    script.write_text("".join(json.dumps(line) + "\n" for line in lines))
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    (workspace / "shared.txt").write_text("as it was\n")
    (workspace / "other.txt").write_text("other\n")
    return script, workspace


async def containers(*sessions):
    engine = await Engine.connect()
    try:
        return [one for name in sessions for one in await engine.containers({SESSION: name})]
    finally:
        await engine.close()


def outcomes(directory):
    found = [r.entry.result for r in read(directory) if isinstance(r.entry, CallOutcome)]
    return sorted(found, key=lambda result: int(result.call_id.removeprefix("call_")))


async def test_two_at_once_see_the_workspace_and_not_each_other_and_are_merged(tmp_path: Path) -> None:
    probe = "cat early shared.txt; ls /workspace; id -u; cat /proc/net/dev | wc -l"
    script, workspace = written(
        tmp_path,
        {"calls": [call("bash", command="echo made by the parent > early")]},
        {"calls": [call("spawn", name="one", task="a"), call("spawn", name="two", task="b")]},
        {
            "child": "one",
            "calls": [call("bash", command=f"{probe}; echo one >> shared.txt; echo 1 > from-one")],
        },
        {"child": "one", "text": "one is done"},
        {"child": "two", "calls": [call("bash", command=f"{probe}; echo two >> shared.txt; rm other.txt")]},
        {"child": "two", "text": "two is done"},
        {"calls": [call("merge", child="one")]},
        {"calls": [call("merge", child="two")]},
        {"calls": [call("bash", command="ls; cat shared.txt")]},
        {"text": "done"},
    )
    home = tmp_path / "home"
    options = RunOptions(
        task="go",
        model=f"scripted:{script}",
        policy=load("strict"),
        workspace=workspace,
        home=home,
        watched=False,
    )
    ended = await run(options, lambda event: None, Interrupt())
    assert ended.status == "done"
    rows = {row.id: row for row in Store(home).list()}
    parent = next(row for row in rows.values() if not row.parent)
    results = outcomes(parent.directory)
    _, one, two, first, second, last = results
    assert "> one is done" in one.content
    assert "+one" in one.content
    assert "added file from-one" in one.content
    assert "from-one" not in two.content
    assert "deleted file other.txt" in two.content
    assert first.error is None
    # Both changed one file: the second one's is named, and nothing of the first is lost.
    assert second.error == "conflict"
    assert "shared.txt: it has changed here" in second.content
    assert last.content.split("\n")[:5] == ["early", "from-one", "shared.txt", "as it was", "one"]
    for row in rows.values():
        if row.parent:
            (said,) = outcomes(row.directory)
            assert said.content.startswith("made by the parent\nas it was\nearly\nother.txt\nshared.txt\n")
            with Checkpoints(row.directory) as kept:
                assert kept.numbers() == [0, 1]
    assert await containers(*rows) == []
    assert not mounted_sessions(home / "sessions")
    assert {change.path for change in changes(parent.directory).changes} == {
        "early", "from-one", "shared.txt", "other.txt",
    }  # fmt: skip
    assert (workspace / "shared.txt").read_text() == "as it was\n"


async def test_a_child_whose_workspace_cannot_be_made_runs_nothing_and_leaves_nothing(tmp_path, monkeypatch):
    script, workspace = written(
        tmp_path,
        {"calls": [call("spawn", name="kid", task="a")]},
        {"child": "kid", "calls": [call("bash", command="echo never")]},
        {"text": "done"},
    )

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sandbox.checkpoints.restore.Restore._make", full)
    home = tmp_path / "home"
    options = RunOptions("go", f"scripted:{script}", load("strict"), workspace=workspace, home=home)
    ended = await run(options, lambda event: None, Interrupt())
    assert ended.status == "done"
    rows = Store(home).list()
    parent = next(row for row in rows if not row.parent)
    (spawned,) = outcomes(parent.directory)
    assert spawned.error == "failed"
    assert "No space left on device" in spawned.content
    kid = next(row for row in rows if row.parent)
    assert outcomes(kid.directory) == []
    assert await containers(parent.id, kid.id) == []
    assert not mounted_sessions(home / "sessions")


async def test_a_child_whose_harness_was_killed_is_ended_and_not_begun_again(tmp_path, monkeypatch) -> None:
    script, workspace = written(
        tmp_path,
        {"calls": [call("spawn", name="kid", task="a")]},
        {"child": "kid", "calls": [call("bash", command="echo x > kept")]},
        {"child": "kid", "calls": [call("bash", command="echo y > lost; sleep 100")]},
        {"child": "kid", "text": "never"},
        {"calls": [call("merge", child="kid")]},
        {"text": "done"},
    )
    home = warm_home(tmp_path)
    environment = {**os.environ, "USERMODE_HOME": str(home), "PYTHONPATH": str(Path(__file__).parents[2])}
    harness = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "harness", "run", "go", "--json", "-m", f"scripted:{script}", "-p", "strict",
        "-w", str(workspace), stdout=asyncio.subprocess.DEVNULL, env=environment,
    )  # fmt: skip
    store = Store(home)
    async with asyncio.timeout(60):
        while not any("lost" in path.read_text() for path in home.glob("sessions/*/journal.jsonl")):
            await asyncio.sleep(0.05)
    harness.send_signal(signal.SIGKILL)
    await harness.wait()
    rows = store.list()
    kid = next(row for row in rows if row.parent)
    parent = next(row for row in rows if not row.parent)
    assert len(await containers(kid.id)) == 1
    monkeypatch.setenv("USERMODE_HOME", str(home))
    with pytest.raises(UsageError, match="usermode fork"):
        await resume(ResumeOptions(kid.id, home=home), lambda event: None, Interrupt())
    ended = await resume(ResumeOptions(parent.id, home=home, watched=False), lambda event: None, Interrupt())
    assert ended.status == "done"
    spawned, merged = outcomes(parent.directory)
    assert spawned.error == "unknown"
    assert "the harness ended while this ran" in spawned.content
    assert "added file kept" in spawned.content
    assert merged.error is None
    entries = [record.entry for record in read(kid.directory)]
    assert isinstance(entries[-1], SessionEnded)
    assert entries[-1].status == "killed"
    assert sum(isinstance(entry, SessionStarted) for entry in entries) == 1
    assert sum(isinstance(r.entry, ChildStarted) for r in read(parent.directory)) == 1
    assert ended.turns == 2 + entries[-1].turns + 1
    assert await containers(kid.id, parent.id) == []
    assert len(store.list()) == 2
    # What it began can be gone on with, in a session of its own.
    assert await asyncio.to_thread(fork, kid.id, None) == 0


async def test_over_an_overlay_a_child_sees_what_was_written_and_what_lies_beneath(tmp_path, monkeypatch):
    script, workspace = written(
        tmp_path,
        {"calls": [call("bash", command="echo early > early; rm other.txt")]},
        {"calls": [call("spawn", name="kid", task="a")]},
        {"child": "kid", "calls": [call("bash", command="ls; cat early; echo more >> shared.txt; > new")]},
        {"child": "kid", "text": "said"},
        {"calls": [call("merge", child="kid")]},
        {"calls": [call("bash", command="ls; cat shared.txt")]},
        {"text": "done"},
    )
    for path in (tmp_path, *tmp_path.parents[:2]):
        path.chmod(0o755)
    for path in (workspace, *workspace.iterdir()):
        os.chown(path, 1000, 1000)
    strict = load("strict")
    policy = strict.model_copy(update={"workspace": strict.workspace.model_copy(update={"mode": "overlay"})})
    home = warm_home(tmp_path)
    options = RunOptions("go", f"scripted:{script}", policy, workspace=workspace, home=home, watched=False)
    ended = await run(options, lambda event: None, Interrupt())
    assert ended.status == "done", ended
    parent = next(row for row in Store(home).list() if not row.parent)
    child = next(row for row in Store(home).list() if row.parent)
    (seen,) = outcomes(child.directory)
    assert seen.content.startswith("early\nshared.txt\nearly\n")
    _, spawned, merged, last = outcomes(parent.directory)
    assert spawned.error is None
    assert merged.error is None, merged.content
    assert last.content.split("\n")[:5] == ["early", "new", "shared.txt", "as it was", "more"]
    assert (workspace / "shared.txt").read_text() == "as it was\n"
    # A fork of it stands over the same directory, and shows no more than it wrote.
    monkeypatch.setenv("USERMODE_HOME", str(home))
    assert await asyncio.to_thread(fork, parent.id, 1) == 0
    (forked,) = (row for row in Store(home).list() if row.status == "forked")
    # It has given one reply; these are the next.
    look = {"calls": [call("bash", command="ls; cat shared.txt")]}
    replies = [{"text": "given before"}, look, {"text": "done"}]
    script.write_text("".join(json.dumps(line) + "\n" for line in replies))
    again = ResumeOptions(forked.id, "look", home=home, watched=False)
    ended = await resume(again, lambda event: None, Interrupt())
    assert ended.status == "done"
    assert outcomes(forked.directory)[-1].content.startswith("early\nshared.txt\nas it was\n")
    assert {(one.path, one.kind) for one in changes(forked.directory).changes} == {
        ("early", "added"), ("other.txt", "deleted"),
    }  # fmt: skip
