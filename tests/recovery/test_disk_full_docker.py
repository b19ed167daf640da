"""A full disk under a real session: one line, its exit code, and nothing stored is lost unseen."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest
from small_disk import small_disk

from harness.boot.parts import RunOptions
from harness.boot.start import run
from harness.events import CallOutcome, CallStarted, Notice
from harness.exits import SANDBOX
from harness.journal.reading import read, verify
from harness.process.interrupt import Interrupt
from harness.store import Store
from policies import load
from sandbox.cache import cache_dir
from sandbox.workspace import hostdisk
from sandbox.workspace.accept import apply
from sandbox.workspace.mounts import mountpoints
from sandbox.workspace.quota import exact_unavailable

pytestmark = [
    pytest.mark.docker,
    pytest.mark.skipif(exact_unavailable() is not None, reason="only root can mount a small disk"),
]
SPARE = 8 << 20


def script(tmp_path: Path, *commands: str) -> str:
    # More than fits into what is left of the journal's last page.
    said = "x" * 5000
    replies = [
        {"text": said, "calls": [{"name": "bash", "arguments": {"command": text}}]} for text in commands
    ]
    path = tmp_path / "script.jsonl"
    path.write_text("".join(json.dumps(reply) + "\n" for reply in [*replies, {"text": "done"}]))
    return f"scripted:{path}"


async def test_a_full_disk_ends_a_session_with_one_line_and_room_lets_it_go_on(tmp_path: Path) -> None:
    with small_disk(tmp_path, 16) as disk:
        home = disk.path / "home"
        home.mkdir(mode=0o700)
        (home / "cache").symlink_to(cache_dir())
        environment = {
            **os.environ, "USERMODE_HOME": str(home), "PYTHONPATH": str(Path(__file__).parents[2])
        }  # fmt: skip

        async def usermode(*argv: str, full: bool = False) -> tuple[int, list[str], list[str]]:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "harness", *argv, env=environment,
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            assert process.stdout is not None
            lines: list[str] = []
            async with asyncio.timeout(90):
                while line := (await process.stdout.readline()).decode():
                    lines.append(line.rstrip())
                    if full and line.startswith("$ sleep"):
                        disk.fill()
                _, errors = await process.communicate()
            assert process.returncode is not None
            return process.returncode, lines, errors.decode().splitlines()

        model = script(tmp_path, "echo one", "sleep 1; echo two", "echo three")
        code, lines, _ = await usermode("run", "go", "-m", model, "--no-workspace", full=True)
        begun = [line for line in lines if line.startswith("$")]
        assert (code, begun) == (7, ["$ echo one", "$ sleep 1; echo two"])
        assert [line for line in lines[-2:] if line.startswith("journal: disk full: ")]
        code, lines, errors = await usermode("resume", "last")
        assert (code, [line for line in lines if line.startswith("$")]) == (7, [])
        assert [line for line in (*lines, *errors) if "disk full" in line]
        disk.empty()
        code, lines, _ = await usermode("resume", "last")
        assert (code, [line for line in lines if line.startswith("$")]) == (0, ["$ echo three"])
        (row,) = Store(home).list()
        assert verify(row.directory).ok
        results = [one.entry.result for one in read(row.directory) if isinstance(one.entry, CallOutcome)]
        assert [result.content.split("\n")[0] for result in results] == ["one", "two", "three"]


async def test_what_runs_is_ended_while_what_it_stored_still_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hostdisk, "RESERVE", SPARE)
    (tmp_path / "workspace").mkdir()
    with small_disk(tmp_path, 96) as disk:
        options = RunOptions(
            task="go",
            model=script(tmp_path, "echo one >> ran; sleep 60; echo two >> ran", "echo three >> ran"),
            policy=load("strict"),
            workspace=tmp_path / "workspace",
            home=disk.path / "home",
        )

        def watch(event: object) -> None:
            if isinstance(event, CallStarted) and "sleep" in str(event.call.arguments):
                asyncio.get_running_loop().call_later(0.5, lambda: disk.fill(leave=SPARE // 2 // 4096))

        async with asyncio.timeout(50):
            ended = await run(options, watch, Interrupt())
        assert ended.status == "done"
        (row,) = Store(disk.path / "home").list()
        assert "stopped: " in next(
            one.entry.result.content for one in read(row.directory) if isinstance(one.entry, CallOutcome)
        )
        # There was no room for a checkpoint either: that is said, and the session goes on.
        notices = [one.entry for one in read(row.directory) if isinstance(one.entry, Notice)]
        assert [one.text for one in notices if one.code == "checkpoint"] == [
            "no checkpoint: the host's disk is nearly full"
        ]
        disk.empty()
        apply(row.directory)
        assert (tmp_path / "workspace" / "ran").read_text() == "one\nthree\n"


async def test_a_workspace_that_does_not_fit_on_the_disk_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hostdisk, "RESERVE", SPARE)
    (tmp_path / "workspace").mkdir()
    (tmp_path / "workspace" / "large").write_bytes(bytes(1024) + os.urandom(32 << 20))
    with small_disk(tmp_path, 32) as disk:
        options = RunOptions(
            task="go",
            model=script(tmp_path, "echo one"),
            policy=load("strict"),
            workspace=tmp_path / "workspace",
            home=disk.path / "home",
        )
        ended = await run(options, lambda event: None, Interrupt())
        assert (ended.status, ended.exit_code) == ("sandbox", SANDBOX)
        assert "free some space" in ended.reason
        assert [path for path in mountpoints() if disk.path in path.parents] == []
