"""Sessions that were left: a harness in a process of its own, killed over a real container."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.boot.resume import ResumeOptions, resume
from harness.events import CallOutcome, SessionEnded, TakenUp
from harness.journal.reading import read
from harness.process.interrupt import Interrupt
from harness.store import Store
from sandbox.cache import cache_dir
from sandbox.engine import Engine
from sandbox.owner import SESSION


def commands(*texts: str) -> list[dict[str, object]]:
    """A script of one command a step."""
    calls = [{"name": "bash", "arguments": {"command": text}} for text in texts]
    return [*({"calls": [call]} for call in calls), {"text": "done"}]


def warm_home(tmp_path: Path) -> Path:
    """A home for sessions of its own, where what was built and measured before is known."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    cache_dir().mkdir(mode=0o700, parents=True, exist_ok=True)
    (home / "cache").symlink_to(cache_dir())
    return home


async def left(
    tmp_path: Path, script: Sequence[object], *options: str, after: str = "call_intent", after_s: float = 0.0
) -> Path:
    """The directory of a session whose harness was killed so long after the first entry of that kind."""
    file = tmp_path / "script.jsonl"
    file.write_text("".join(json.dumps(reply) + "\n" for reply in script))
    home, project = warm_home(tmp_path), Path(__file__).parents[2]
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "harness", "run", "go", "--json", "-m", f"scripted:{file}", *options,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "USERMODE_HOME": str(home), "PYTHONPATH": str(project)},
    )  # fmt: skip
    assert child.stdout is not None
    async with asyncio.timeout(60):
        while f'"kind":"{after}"'.encode() not in (line := await child.stdout.readline()):
            assert line, "the session ended before that"
    await asyncio.sleep(after_s)
    child.send_signal(signal.SIGKILL)
    await child.wait()
    (row,) = Store(home).list()
    return row.directory


async def without_container(directory: Path) -> None:
    """As after a restart of the machine, or of its engine."""
    engine = await Engine.connect()
    try:
        for container in await engine.containers({SESSION: directory.name}):
            await engine.remove(container["Id"])
    finally:
        await engine.close()


async def gone_on(tmp_path: Path) -> SessionEnded:
    options = ResumeOptions("last", home=tmp_path / "home", watched=False)
    return await resume(options, lambda event: None, Interrupt())


def results(directory: Path) -> list[str]:
    return [
        record.entry.result.content for record in read(directory) if isinstance(record.entry, CallOutcome)
    ]


def taken_up(directory: Path) -> TakenUp:
    """The last time."""
    return [record.entry for record in read(directory) if isinstance(record.entry, TakenUp)][-1]
