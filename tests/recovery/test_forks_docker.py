"""A fork on a real container: its files are made while that starts, whatever dies meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest
from left import results, warm_home

from harness.boot.parts import RunOptions
from harness.boot.resume import ResumeOptions, resume
from harness.boot.start import run
from harness.commands.changes import diff
from harness.commands.fork import fork
from harness.journal.reading import verify
from harness.process.interrupt import Interrupt
from harness.store import Store
from policies import load
from sandbox.engine import Engine
from sandbox.owner import SESSION
from sandbox.workspace import changes
from sandbox.workspace.quota import mounted_sessions, promised

pytestmark = pytest.mark.docker

FILES = 30
STUCK = """
import sys, time
from harness.cli import main
from sandbox.checkpoints.restore import Restore

made, real = 0, Restore._make

def slowly(self, *arguments):
    global made
    real(self, *arguments)
    made += 1
    if made == 10:
        print("half", flush=True)
        time.sleep(600)

Restore._make = slowly
main()
"""


def bash(command: str) -> dict[str, object]:
    return {"calls": [{"name": "bash", "arguments": {"command": command}}]}


async def containers(session: str) -> list[object]:
    engine = await Engine.connect()
    try:
        return list(await engine.containers({SESSION: session}))
    finally:
        await engine.close()


async def test_a_fork_whose_harness_was_killed_while_its_files_were_made_is_whole(
    tmp_path, monkeypatch, capsys
):
    script, project, home = tmp_path / "script.jsonl", tmp_path / "project", warm_home(tmp_path)
    project.mkdir()
    for number in range(FILES):
        (project / f"f{number}").write_text(f"{number}\n")
    work = [bash("echo changed > f0; rm f1; echo new > g"), {"text": "done"}]
    script.write_text("".join(json.dumps(line) + "\n" for line in work))
    options = RunOptions("go", f"scripted:{script}", load("strict"), workspace=project, home=home)
    assert (await run(options, lambda event: None, Interrupt())).status == "done"
    monkeypatch.setenv("USERMODE_HOME", str(home))
    assert await asyncio.to_thread(fork, "last", None) == 0
    (row,) = (row for row in Store(home).list() if row.status == "forked")
    assert promised(row.directory)

    # It begins after the first reply's results; these are the next.
    more = [work[0], bash("find -type f | wc -l; cat f0 f29 g"), {"text": "done again"}]
    script.write_text("".join(json.dumps(line) + "\n" for line in more))
    stuck = await asyncio.create_subprocess_exec(
        sys.executable, "-c", STUCK, "resume", row.id, "look",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert stuck.stdout is not None
    async with asyncio.timeout(60):
        while b"half" not in (line := await stuck.stdout.readline()):
            assert line, "it ended before that"
        while not await containers(row.id):
            await asyncio.sleep(0.05)
    stuck.send_signal(signal.SIGKILL)
    await stuck.wait()
    assert promised(row.directory)
    assert mounted_sessions(home / "sessions") == [row.directory]

    # Beside the container that was left: what is shown is all of it.
    capsys.readouterr()
    await asyncio.to_thread(diff, row.id, None, stat=True)
    assert "3 changes" in capsys.readouterr().out
    expected = {("f0", "modified"), ("f1", "deleted"), ("g", "added")}
    assert {(one.path, one.kind) for one in changes(row.directory).changes} == expected
    ended = await resume(ResumeOptions(row.id, "look", home=home), lambda event: None, Interrupt())
    assert ended.status == "done"
    assert results(row.directory)[-1].startswith(f"{FILES}\nchanged\n29\nnew\n")
    assert verify(row.directory).ok
    assert {(one.path, one.kind) for one in changes(row.directory).changes} == expected
    assert await containers(row.id) == []
    assert not mounted_sessions(home / "sessions")
