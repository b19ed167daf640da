"""A real harness killed with SIGKILL over a real container, and its session taken up again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from left import left

from harness.boot.resume import ResumeOptions, resume
from harness.errors import JournalError
from harness.events import CallOutcome, SessionEnded, TakenUp
from harness.journal.reading import read
from harness.journal.writer import Journal
from harness.process.interrupt import Interrupt
from harness.store import Store
from sandbox.engine import Engine
from sandbox.lifecycle.reaper import reap
from sandbox.owner import SESSION

pytestmark = pytest.mark.docker

SCRIPT = [
    {
        "calls": [
            {"name": "bash", "arguments": {"command": "echo x >> ran; echo begun; sleep 2.5; echo finished"}}
        ]
    },
    {"calls": [{"name": "bash", "arguments": {"command": "cat ran"}}]},
    {"text": "done"},
]


async def killed(tmp_path: Path, *, after_s: float) -> Path:
    """A session whose harness is killed while its command runs; its directory."""
    (tmp_path / "workspace").mkdir()
    workspace = str(tmp_path / "workspace")
    directory = await left(tmp_path, SCRIPT, "-p", "strict", "-w", workspace, after_s=after_s)
    (row,) = Store(tmp_path / "home").list()
    assert row.status == "interrupted"
    return directory


async def taken_up(tmp_path: Path, directory: Path) -> tuple[SessionEnded, TakenUp, list[str]]:
    ended = await resume(
        ResumeOptions("last", home=tmp_path / "home", watched=False), lambda event: None, Interrupt()
    )
    entries = [record.entry for record in read(directory)]
    (found,) = (entry for entry in entries if isinstance(entry, TakenUp))
    return ended, found, [entry.result.content for entry in entries if isinstance(entry, CallOutcome)]


async def containers(session: str) -> list[str]:
    engine = await Engine.connect()
    try:
        return [one["Id"] for one in await engine.containers({SESSION: session})]
    finally:
        await engine.close()


async def test_what_finished_meanwhile_is_adopted_and_the_reaper_leaves_it_be(tmp_path: Path) -> None:
    directory = await killed(tmp_path, after_s=0.5)
    await asyncio.sleep(3)
    engine = await Engine.connect()
    try:
        assert [one for one in await reap(engine, directory.parent, resumable=lambda _: True)
                if one.session == directory.name] == []  # fmt: skip
    finally:
        await engine.close()
    ended, found, results = await taken_up(tmp_path, directory)
    assert (ended.status, ended.changes) == ("done", 1)
    assert (found.sandbox, [call.fate for call in found.calls]) == ("attached", ["adopted"])
    assert results == ["begun\nfinished\n[exit code 0]", "x\n[exit code 0]"]
    assert await containers(directory.name) == []


async def test_what_still_runs_is_waited_for_and_a_second_resume_is_refused(tmp_path: Path) -> None:
    directory = await killed(tmp_path, after_s=0.3)
    async with asyncio.TaskGroup() as group:
        first = group.create_task(taken_up(tmp_path, directory))
        await asyncio.sleep(0.6)
        with pytest.raises(JournalError, match="is open in another process"):
            Journal.open(directory)
    ended, found, results = first.result()
    assert ended.status == "done"
    assert [call.fate for call in found.calls] == ["reattached"]
    assert results == ["begun\nfinished\n[exit code 0]", "x\n[exit code 0]"]


async def test_without_its_container_it_goes_on_over_its_own_workspace(tmp_path: Path) -> None:
    directory = await killed(tmp_path, after_s=1)
    engine = await Engine.connect()
    try:
        for container in await containers(directory.name):
            await engine.remove(container)
    finally:
        await engine.close()
    ended, found, results = await taken_up(tmp_path, directory)
    assert (ended.status, ended.changes) == ("done", 1)
    assert (found.sandbox, [call.fate for call in found.calls]) == ("reopened", ["unknown"])
    assert "check before repeating" in results[0]
    # Done once, and still there.
    assert results[1] == "x\n[exit code 0]"
    assert await containers(directory.name) == []
