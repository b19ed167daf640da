"""A harness that dies at any boundary: its journal, sandbox, model, user and gate, each step counted.

The sandbox lives on with what runs in it, as a container does when its harness is killed.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager

import pytest
from boundaries import Died, Life, Mortal
from downloads import DIALLING, fetching, let_out, mortal_connect

from harness.approvals.petition import Reply
from harness.boot.machine import Opened
from harness.boot.parts import RunOptions
from harness.boot.resume import ResumeOptions, resume
from harness.boot.start import run
from harness.journal.reading import read
from harness.journal.writer import Journal, _write_all
from harness.process.interrupt import Interrupt
from harness.providers.scripted import ScriptedProvider
from harness.store import Store
from policies.schema import Limits, Network, Policy, Rule, When
from sandbox.memory import MemorySandbox

TASK = "mend it, and mind the queue"
SLOW_S = 0.04
STUCK_S = 20
"""No session here takes a second."""

BOX = {
    "start", "run", "result", "release", "progress", "send_stdin", "kill", "jobs", "read_file", "write_file",
    "stat", "list_dir",
}  # fmt: skip


class MortalModel(ScriptedProvider):
    def __init__(self, life, replies, requests, child=""):
        super().__init__(replies, child=child)
        self._life, self._script, self._requests = life, replies, requests

    def of_child(self, name):
        return MortalModel(self._life, self._script, self._requests, name)

    async def stream(self, request):
        self._life.step("before request")
        self._requests.append(request)
        async for delta in super().stream(request):
            yield delta
        self._life.step("after reply")


class MortalUser:
    def __init__(self, life):
        self._life = life

    async def ask(self, petition, *, deadline_s):
        self._life.step("before asking")
        await asyncio.sleep(0)
        self._life.step("after asking")
        return Reply(True)


WRITTEN = Journal.append_many


def install(monkeypatch, world):
    """Put the boundaries into the harness; `world()` is the one of this moment."""

    async def append_many(journal, entries, *told):
        life, names = world().life, "+".join(entry.kind for entry in entries)
        was_dead = life.dead
        try:
            life.step(f"before writing {names}")
        except Died:
            if was_dead:
                raise
            life.tears = True
        records = await WRITTEN(journal, entries, *told)
        life.step(f"after writing {names}")
        return records

    def write_all(fd, data):
        """Whoever dies before a write is done may have got some way with it, or none."""
        life = world().life
        if life.tears:
            life.tears = False
            os.write(fd, data[: life.steps * 7919 % len(data)])
        if life.dead:
            raise Died("amid a write")
        _write_all(fd, data)

    def open_provider(model, base_url):
        one = world()
        return MortalModel(one.life, one.replies, one.requests)

    async def connect(*where):
        return await mortal_connect(world().life, *where)

    monkeypatch.setattr(Journal, "append_many", append_many)
    monkeypatch.setattr("harness.journal.writer._write_all", write_all)
    monkeypatch.setattr("sandbox.egress.peers.connect", connect)
    # Whether the disk keeps what it said it kept is tried elsewhere; here it would only take time.
    monkeypatch.setattr("harness.journal.writer._sync", lambda fd: None)
    for module in ("harness.boot.start", "harness.boot.resume"):
        monkeypatch.setattr(f"{module}.open_provider", open_provider)


@asynccontextmanager
async def worlds(directory, monkeypatch, begin):
    """`make(name)`: a world that `begin` makes in a directory of that name. The one before it is closed."""
    made = []

    async def make(name):
        while made:
            await made.pop().close()
        (directory / name).mkdir()
        made.append(begin(directory / name))
        return made[-1]

    install(monkeypatch, lambda: made[-1])
    # Nor is anything else that is written here to outlive this machine.
    monkeypatch.setattr("os.fsync", lambda fd: None)
    try:
        yield make
    finally:
        while made:
            await made.pop().close()


class World:
    """What outlives a harness: the home on the disk, and the container with what runs in it."""

    def __init__(self, tmp_path, replies, talk=None, mirror=None, slow_s=SLOW_S):
        self.slow_s = slow_s
        self.home = tmp_path / "home"
        self.replies = replies
        self.workspace = None
        self.mirror = mirror
        """The server outside, if there is one."""
        self.path = "" if mirror is None else mirror.new_path()
        """Where this world downloads from."""
        self.talk = talk
        """What is said while the first harness runs, if anything is; then there is no task."""
        self.ran = {}
        """How often each command had its effect, counted by the guest."""
        self.requests = []
        self.lives = [Life()]
        """Of its harnesses, one after the other."""
        self.box = self._new_box()
        self.policy = Policy(
            name="test",
            limits=Limits(yield_s=slow_s / 2),
            network=Network() if mirror is None else mirror.network,
            rules=(
                Rule(
                    syscall="bash",
                    when=When(command="effect asked"),
                    action="ask",
                    reason="In question.",
                ),
                Rule(syscall="*", action="allow", reason="Inside the sandbox everything may happen."),
            ),
        )

    async def effect(self, process):
        """`effect NAME`, for the inside."""
        name = process.argv[1]
        self.ran[name] = self.ran.get(name, 0) + 1
        await asyncio.sleep(self.slow_s if name.startswith("slow") else 0)
        await process.out(f"{name} is done\n")
        return 0

    def _new_box(self):
        port = 0 if self.mirror is None else self.mirror.port
        fetch = fetching(f"http://127.0.0.1:{port}{self.path}", lambda: self.box.network, self.ran)
        return MemorySandbox(
            policy=Policy(name="test"),
            files={"/workspace/queue.txt": "start\nend\n", "/workspace/notes": "nothing yet\n"},
            commands={"effect": self.effect, "fetch": fetch},
        )

    @asynccontextmanager
    async def machine(self):
        yield self

    async def digest(self, image):
        return "sha256:" + "0" * 64

    @asynccontextmanager
    async def open(self, spec):
        self.life.step("before open")
        async with self._let_out(spec):
            yield Opened(Mortal(self.box, self.life, BOX), None)

    @asynccontextmanager
    async def again(self, spec, ref):
        self.life.step("before open again")
        async with self._let_out(spec):
            how = "attached" if ref == self.box.ref else "new"
            yield Opened(Mortal(self.box, self.life, BOX), None, how=how)

    def _let_out(self, spec):
        harness = asyncio.current_task()
        return let_out(self.box, spec.gate, self.life, harness.cancel)

    async def changes(self, state):
        return 0

    def _given(self):
        return {"home": self.home, "model": "scripted:x", "watched": False, "prompter": MortalUser(self.life)}

    async def start(self, dies_at=None):
        """Run the session; None when its harness died."""
        self.lives.append(Life(dies_at))
        task = TASK if self.talk is None else ""
        given = {"policy": self.policy, "workspace": self.workspace, "talk": self.talk, **self._given()}
        options = RunOptions(task=task, **given)
        return await self._lived(run(options, lambda event: None, Interrupt(), machine=self.machine))

    async def resume(self, dies_at=None, message=""):
        self.lives.append(Life(dies_at))
        options = ResumeOptions("last", message, **self._given())
        return await self._lived(resume(options, lambda event: None, Interrupt(), machine=self.machine))

    async def _lived(self, session):
        harness = asyncio.create_task(session)
        await asyncio.wait([harness], timeout=STUCK_S)
        if not harness.done():
            harness.cancel()
            pytest.fail(f"stuck after {self.life.trail[-5:]}")
        try:
            return await harness
        except Died:
            return None
        except asyncio.CancelledError:
            assert self.life.dead
            return None

    @property
    def life(self):
        return self.lives[-1]

    @property
    def dialled(self):
        """How often a gate of this world was about to dial out."""
        return sum(life.trail.count(DIALLING) for life in self.lives)

    @property
    def asked(self):
        """Requests of this world that reached the server."""
        return 0 if self.mirror is None else self.mirror.asked[self.path]

    @property
    def records(self):
        sessions = Store(self.home).list()
        return list(read(sessions[-1].directory)) if sessions else []

    async def close(self):
        await self.box.close()
