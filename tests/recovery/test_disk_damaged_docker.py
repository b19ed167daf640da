"""A workspace whose writes were lost beneath it: the user and the model are told."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path

import pytest

from harness.boot.parts import RunOptions
from harness.boot.resume import ResumeOptions, resume
from harness.boot.start import run
from harness.commands.changes import diff
from harness.events import MessageAdded, Notice
from harness.journal.reading import read
from harness.process.interrupt import Interrupt
from harness.store import Store
from policies import load
from sandbox.workspace.quota import damaged, exact_unavailable

pytestmark = [
    pytest.mark.docker,
    pytest.mark.skipif(exact_unavailable() is not None, reason="only root can mount an image"),
]


async def test_a_workspace_that_lost_writes_is_gone_on_with_and_not_taken_for_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "workspace").mkdir()
    script = tmp_path / "script.jsonl"
    call = {"calls": [{"name": "bash", "arguments": {"command": "echo one > f"}}]}
    script.write_text("".join(json.dumps(reply) + "\n" for reply in [call, {"text": "a"}, {"text": "b"}]))
    home = tmp_path / "home"
    options = RunOptions(
        task="go", model=f"scripted:{script}", policy=load("strict"),
        workspace=tmp_path / "workspace", home=home,
    )  # fmt: skip
    assert (await run(options, lambda event: None, Interrupt())).status == "done"
    (row,) = Store(home).list()
    assert not damaged(row.directory)
    # What the kernel notes when the disk beneath takes no more.
    image = row.directory / "workspace.img"
    argv = ["debugfs", "-w", "-R", "set_super_value state 3", str(image)]
    await asyncio.to_thread(subprocess.run, argv, check=True, capture_output=True)

    monkeypatch.setenv("USERMODE_HOME", str(home))
    assert diff(row.id, None) == 0
    told = capsys.readouterr()
    assert "+one" in told.out
    assert "files may be missing or cut short" in told.err
    ended = await resume(ResumeOptions(row.id, "go on", home=home), lambda event: None, Interrupt())
    assert ended.status == "done"
    entries = [record.entry for record in read(row.directory)]
    [notice] = [one for one in entries if isinstance(one, Notice) and one.code == "workspace"]
    assert f"usermode rewind {row.id} --to N" in notice.text
    said = [one.message.text for one in entries if isinstance(one, MessageAdded)]
    assert any("files may be missing or cut short" in text for text in said)
    assert not any("as it was left" in text for text in said)
