"""A harness with children that dies at any boundary: a box for each session, over a workspace on the disk.

The boxes are in memory. What stands at their /workspace stands in the session's tree on the disk as well, as
where a container has that mounted; checkpoints, snapshots and merges are the real ones over it.
"""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from dataclasses import replace

from boundaries import Mortal
from mortal import BOX, SLOW_S, World

from harness.boot import children as boot_children
from harness.boot.machine import Opened
from harness.events import SessionStarted
from harness.journal.reading import read
from harness.journal.record import FILE
from harness.store import Store
from policies import load
from sandbox import owner, workspace
from sandbox.checkpoints import planting
from sandbox.memory import MemorySandbox
from sandbox.memory.programs import PROGRAMS
from sandbox.workspace.layout import tree_of
from sandbox.workspace.quota import remove


def install_family(monkeypatch, world):
    """More boundaries: what the host does about a child's directory, which a dead harness does not do."""
    # A tree that is a plain directory takes no image and no mount.
    monkeypatch.setattr("sandbox.workspace.quota.exact_unavailable", lambda: "there is none in memory")
    # Who died is still this process, and alive.
    monkeypatch.setattr("sandbox.owner.in_use", lambda state: False)
    for name in ("remove", "release", "_forget"):
        real = getattr(boot_children, name)

        def mortal(directory, name=name, real=real):
            life = world().life
            life.step(f"before {name}")
            real(directory)
            life.step(f"after {name}")

        monkeypatch.setattr(boot_children, name, mortal)


class Mounted:
    """A box whose /workspace is a directory of this machine: regular files and directories, no more."""

    def __init__(self, box, tree):
        self._box, self._tree = box, tree

    def __getattr__(self, name):
        real = getattr(self._box, name)
        if name != "write_file":
            return real

        async def write_file(*args, **kwargs):
            await real(*args, **kwargs)
            self.sync()

        return write_file

    def sync(self):
        inside = dict(_files(self._box.tree.get("/workspace")))
        for name in on_disk(self._tree).keys() - inside.keys():
            (self._tree / name).unlink()
        for name, data in inside.items():
            path = self._tree / name
            if not path.exists() or path.read_bytes() != data:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)


def _files(node, prefix=""):
    for name, below in node.entries.items():
        if below.kind == "file":
            yield f"{prefix}{name}", bytes(below.data)
        else:
            yield from _files(below, f"{prefix}{name}/")


def on_disk(tree):
    return {str(path.relative_to(tree)): path.read_bytes() for path in tree.rglob("*") if path.is_file()}


class Family(World):
    """What outlives a harness: the home on the disk, and the containers of all its sessions."""

    def __init__(self, tmp_path, replies, files):
        self.boxes = {}
        """By session, while it has one."""
        super().__init__(tmp_path, replies)
        strict = load("strict")
        limits = strict.limits.model_copy(update={"spawn_depth": 2, "yield_s": SLOW_S / 2})
        self.policy = strict.model_copy(update={"limits": limits})
        self.workspace = tmp_path / "project"
        self.workspace.mkdir()
        for name, text in files.items():
            (self.workspace / name).write_text(text)

    def _new_box(self):
        return None

    @asynccontextmanager
    async def open(self, spec):
        life, state = self.life, spec.state
        life.step("before open")
        owner.claim(state)
        if not spec.reopen:
            ids = {"uid": 1000, "gid": 1000}
            workspace.prepare(state, spec.policy.limits, **ids)
            workspace.copy_in(spec.workspace, state, limits=spec.policy.limits, **ids)
        elif (fill := planting.begin(state)) is not None:
            life.step("before filling")
            fill()
        life.step("before box")
        self.boxes[state.name] = self._box_over(tree_of(state), spec.policy)
        life.step("after open")
        async with self._leased(state.name, life) as box:
            yield Opened(box, None)

    @asynccontextmanager
    async def again(self, spec, ref):
        self.life.step("before open again")
        found = self.boxes.get(spec.session)
        if found is not None and found.ref == ref:
            async with self._leased(spec.session, self.life) as box:
                yield Opened(box, None, how="attached")
            return
        await self._end(spec.session)
        if ref is None:
            remove(spec.state)
        async with self.open(replace(spec, reopen=spec.reopen or ref is not None)) as opened:
            yield replace(opened, how="reopened")

    @asynccontextmanager
    async def _leased(self, session, life):
        """A harness that ends takes its box with it, one that dies leaves it."""
        try:
            yield Mortal(self.boxes[session], life, BOX)
        finally:
            if not life.dead:
                await self._end(session)

    async def lose_boxes(self):
        """A power cut, or an engine that was stopped."""
        for session in list(self.boxes):
            await self._end(session)

    async def _end(self, session):
        if (box := self.boxes.pop(session, None)) is not None:
            await box.close()

    async def abandon(self, state):
        self.life.step("before abandoning")
        await self._end(state.name)
        self.life.step("after its box")
        with suppress(FileNotFoundError):
            remove(state)
        self.life.step("after abandoning")

    async def changes(self, state):
        self.life.step("before counting")
        return len(workspace.changes(state).changes)

    def _box_over(self, tree, policy):
        async def rm(process):
            code = await PROGRAMS["rm"](process)
            mounted.sync()
            return code

        files = {f"/workspace/{name}": data for name, data in on_disk(tree).items()}
        box = MemorySandbox(policy=policy, files=files, commands={"effect": self.effect, "rm": rm})
        mounted = Mounted(box, tree)
        return mounted

    @property
    def journals(self):
        """Of every session that has one: by the name of the child, the parent's under the empty one."""
        found = {}
        for row in Store(self.home).list():
            if not (row.directory / FILE).exists():
                continue
            if records := list(read(row.directory)):
                first = records[0].entry
                assert isinstance(first, SessionStarted)
                name = "" if first.parent is None else first.parent.name
                assert name not in found, "one child was begun twice"
                found[name] = records
        return found

    async def close(self):
        await self.lose_boxes()
