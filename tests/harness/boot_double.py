"""A session as boot runs it, on a machine whose sandboxes are in memory, with its journal on the disk."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import asynccontextmanager

from harness.boot.machine import Opened
from harness.boot.parts import RunOptions
from harness.boot.start import run
from harness.events import ApprovalAsked, WorkspaceCopied
from harness.journal.reading import read
from harness.process.interrupt import Interrupt
from harness.store import Store
from policies import load
from policies.schema import Rule, Sudo
from sandbox.errors import ImageMissing
from sandbox.memory import MemorySandbox

COPIED = WorkspaceCopied(files=2, bytes=3, excluded=(".env: credentials",), excluded_total=1)


ASK = Rule(syscall="bash", action="ask", reason="You decide.")


def asking(timeout_s=30.0):
    policy = load("strict")
    return policy.model_copy(update={"rules": (ASK, *policy.rules), "sudo": Sudo(timeout_s=timeout_s)})


async def usermode(started, *argv):
    """The command in a process of its own: exit code, standard output, standard error."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "harness",
        *argv,
        env={**os.environ, "USERMODE_HOME": str(started.home)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def asked(started):
    while not any(isinstance(event, ApprovalAsked) for event in started.events):
        await asyncio.sleep(0.01)
    return started.sessions[-1].directory


class MemoryMachine:
    """A machine whose sandboxes are in memory; it counts what is open."""

    def __init__(self, box=None, fault=None):
        self.box = box or MemorySandbox(files={"/workspace/.keep": ""})
        self.fault = fault
        self.opened: list[object] = []
        self.closed = 0

    @asynccontextmanager
    async def __call__(self):
        yield self

    async def digest(self, image):
        if image == "absent":
            raise ImageMissing(image)
        return "sha256:" + "0" * 64

    @asynccontextmanager
    async def open(self, spec):
        self.opened.append(spec)
        if self.fault is not None:
            raise self.fault
        try:
            async with self.box:
                yield Opened(self.box, COPIED if spec.workspace else None)
        finally:
            self.closed += 1

    async def changes(self, state):
        return 7


class Started:
    """One started session and all that was told of it."""

    def __init__(self, tmp_path):
        self.home = tmp_path / "home"
        self.script = tmp_path / "script.jsonl"
        self.workspace = tmp_path / "repository"
        self.workspace.mkdir()
        self.events = []
        self.interrupt = Interrupt()
        self.machine = MemoryMachine()

    def says(self, *replies):
        lines = (json.dumps(reply if isinstance(reply, dict) else {"text": reply}) for reply in replies)
        self.script.write_text("\n".join(lines) + "\n")

    def options(self, **changed):
        given = {
            "task": "mend it",
            "model": f"scripted:{self.script}",
            "policy": load("strict"),
            "workspace": self.workspace,
            "home": self.home,
        }
        return RunOptions(**{**given, **changed})

    async def run(self, **changed):
        return await run(self.options(**changed), self.events.append, self.interrupt, machine=self.machine)

    @property
    def sessions(self):
        return Store(self.home).list()

    @property
    def journal(self):
        return [record.entry for record in read(self.sessions[-1].directory)]
