"""The host's disk runs full beneath a workspace: what was written until then reaches it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from small_disk import small_disk

from harness.boot.parts import RunOptions
from harness.boot.start import run
from harness.events import CallOutcome, CallOutput
from harness.process.interrupt import Interrupt
from harness.store import Store
from policies import load
from sandbox.workspace import hostdisk
from sandbox.workspace.accept import apply
from sandbox.workspace.quota import exact_unavailable

pytestmark = [
    pytest.mark.docker,
    pytest.mark.skipif(exact_unavailable() is not None, reason="only root can mount a small disk"),
]
SPARE = 8 << 20
SIZE = 3_000_000


async def test_what_was_written_is_on_the_disk_before_others_take_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hostdisk, "RESERVE", SPARE)
    (tmp_path / "workspace").mkdir()
    command = f"head -c {SIZE} /dev/zero | tr '\\0' x > big; echo written; sleep 60"
    script = tmp_path / "script.jsonl"
    # The session outlasts the moment at which nothing fits any more: its end would write all out.
    replies = [{"calls": [{"name": "bash", "arguments": {"command": text}}]} for text in (command, "sleep 3")]
    script.write_text("".join(json.dumps(reply) + "\n" for reply in [*replies, {"text": "done"}]))
    filled: list[object] = []
    with small_disk(tmp_path, 96) as disk:
        options = RunOptions(
            task="go", model=f"scripted:{script}", policy=load("strict"),
            workspace=tmp_path / "workspace", home=disk.path / "home",
        )  # fmt: skip

        def watch(event: object) -> None:
            if isinstance(event, CallOutput) and "written" in event.tail and not filled:
                # Below the reserve, with room for all that was written; then there is none for anybody.
                filled.append(event)
                disk.fill(leave=3 * SPARE // 4 // 4096)
            if isinstance(event, CallOutcome) and len(filled) == 1:
                filled.append(event)
                asyncio.get_running_loop().call_later(1, disk.fill)

        async with asyncio.timeout(50):
            await run(options, watch, Interrupt())
        (row,) = Store(disk.path / "home").list()
        disk.empty()
        apply(row.directory)
        assert (tmp_path / "workspace" / "big").read_bytes() == b"x" * SIZE
