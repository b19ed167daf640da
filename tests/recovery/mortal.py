"""A harness that dies at any boundary: its journal, its sandbox, its model and its user, each step counted.

Once it is dead nothing of it has any effect, whatever its tasks still try while they unwind; the sandbox
lives on with what runs in it, as a container does when its harness is killed.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

from harness.approvals.petition import Reply
from harness.boot import RunOptions, run
from harness.boot_resume import ResumeOptions, resume
from harness.interrupt import Interrupt
from harness.journal import Journal
from harness.machine import Opened
from harness.providers.scripted import ScriptedProvider
from harness.reading import read
from harness.store import Store
from policies.schema import Limits, Policy, Rule, When
from sandbox.memory import MemorySandbox

TASK = "mend it, and mind the queue"
SLOW_S = 0.06
STUCK_S = 20
"""No session here takes a second."""


class Died(BaseException):
    """SIGKILL, as the code under test would never see it."""


class Life:
    """Ends at a step, named or counted."""

    def __init__(self, dies_at=None):
        """`dies_at` is the number of a step, or how one is called: then the first of that name."""
        self.steps = 0
        self.dies_at = dies_at
        self.dead = False
        self.trail = []

    def step(self, name):
        if self.dead:
            raise Died(name)
        self.steps += 1
        self.trail.append(name)
        if self.dies_at in (self.steps, name):
            self.dead = True
            raise Died(name)


BOX = {
    "start", "run", "result", "release", "progress", "send_stdin", "kill", "jobs", "read_file", "write_file",
    "stat", "list_dir",
}  # fmt: skip


class MortalBox:
    """The sandbox as one harness sees it."""

    def __init__(self, box, life):
        self._box, self._life = box, life

    def __getattr__(self, name):
        real = getattr(self._box, name)
        if name not in BOX:
            return real

        async def call(*args, **kwargs):
            self._life.step(f"before {name}")
            done = await real(*args, **kwargs)
            self._life.step(f"after {name}")
            return done

        return call


class MortalModel(ScriptedProvider):
    def __init__(self, life, replies, requests):
        super().__init__(replies)
        self._life, self._requests = life, requests

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
        names = "+".join(entry.kind for entry in entries)
        world().life.step(f"before writing {names}")
        records = await WRITTEN(journal, entries, *told)
        world().life.step(f"after writing {names}")
        return records

    def open_provider(model, base_url):
        one = world()
        return MortalModel(one.life, one.replies, one.requests)

    monkeypatch.setattr(Journal, "append_many", append_many)
    # Whether the disk keeps what it said it kept is tried elsewhere; here it would only take time.
    monkeypatch.setattr("harness.journal._sync", lambda fd: None)
    for module in ("harness.boot", "harness.boot_resume"):
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
    try:
        yield make
    finally:
        while made:
            await made.pop().close()


class World:
    """What outlives a harness: the home on the disk, and the container with what runs in it."""

    def __init__(self, tmp_path, replies, talk=None):
        self.home = tmp_path / "home"
        self.replies = replies
        self.talk = talk
        """What is said while the first harness runs, if anything is; then there is no task."""
        self.ran = {}
        """How often each command had its effect, counted by the guest."""
        self.requests = []
        self.life = Life()
        self.box = self._new_box()
        self.policy = Policy(
            name="test",
            limits=Limits(yield_s=SLOW_S / 2),
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

    def _new_box(self):
        async def effect(process):
            name = process.argv[1]
            self.ran[name] = self.ran.get(name, 0) + 1
            await asyncio.sleep(SLOW_S if name.startswith("slow") else 0)
            await process.out(f"{name} is done\n")
            return 0

        return MemorySandbox(
            policy=Policy(name="test"),
            files={"/workspace/queue.txt": "start\nend\n", "/workspace/notes": "nothing yet\n"},
            commands={"effect": effect},
        )

    @asynccontextmanager
    async def machine(self):
        yield self

    async def digest(self, image):
        return "sha256:" + "0" * 64

    @asynccontextmanager
    async def open(self, spec):
        self.life.step("before open")
        yield Opened(MortalBox(self.box, self.life), None)

    @asynccontextmanager
    async def again(self, spec, ref):
        self.life.step("before open again")
        yield Opened(MortalBox(self.box, self.life), None, how="attached" if ref == self.box.ref else "new")

    async def changes(self, state):
        return 0

    def _given(self):
        return {"home": self.home, "model": "scripted:x", "watched": False, "prompter": MortalUser(self.life)}

    async def start(self, dies_at=None):
        """Run the session; None when its harness died."""
        self.life = Life(dies_at)
        task = TASK if self.talk is None else ""
        options = RunOptions(task=task, policy=self.policy, talk=self.talk, **self._given())
        return await _lived(run(options, lambda event: None, Interrupt(), machine=self.machine))

    async def resume(self, dies_at=None, message=""):
        self.life = Life(dies_at)
        options = ResumeOptions("last", message, **self._given())
        return await _lived(resume(options, lambda event: None, Interrupt(), machine=self.machine))

    @property
    def records(self):
        sessions = Store(self.home).list()
        return list(read(sessions[-1].directory)) if sessions else []

    async def close(self):
        await self.box.close()


async def _lived(session):
    try:
        async with asyncio.timeout(STUCK_S):
            return await session
    except Died:
        return None
