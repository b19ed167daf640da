"""A session from its first life to its end, killed on the way, and what is left of it."""

from __future__ import annotations

import contextlib
import json
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import docker
import docker.errors

from harness.errors import JournalError
from harness.events import SessionEnded
from harness.journal.reading import read, verify
from harness.journal.record import FILE
from harness.store import Store
from sandbox.cache import cache_dir
from sandbox.owner import SESSION
from tests.soak.judge import Said, judge
from tests.soak.life import Plan, live
from tests.soak.program import SEED_FILES, program

LONGEST_S = 0.7
"""A life is killed within this time, most often."""
MOST_LIVES = 80
SANDBOX = 6


@dataclass
class Trial:
    """One session's figures; every list is empty when all is well."""

    seed: int
    harness_kills: int = 0
    container_kills: int = 0
    lives: int = 0
    entries: int = 0
    acknowledged: int = 0
    effects: int = 0
    unknown: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    duration_s: float = 0.0

    @property
    def kills(self) -> int:
        return self.harness_kills + self.container_kills

    @property
    def sound(self) -> bool:
        return not (self.lost or self.doubled or self.left or self.faults)


class Session:
    """A session on its way; everything it makes on this machine is below `place`."""

    def __init__(self, seed: int, place: Path, *, steps: int, doubled: bool, harmless: bool = False) -> None:
        self.place = place
        self.trial = Trial(seed)
        self._chance = random.Random(seed)
        self._harmless = harmless
        self._engine = docker.from_env()
        for name in ("home", "tmp", "workspace"):
            (place / name).mkdir(parents=True, mode=0o700)
        # What can be made again is made once for all of them.
        cache = cache_dir()
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        (place / "home" / "cache").symlink_to(cache)
        for name, text in SEED_FILES.items():
            (place / "workspace" / name).write_text(text)
        self._program = program(seed, steps, doubled=doubled)
        script = "".join(json.dumps(reply) + "\n" for reply in self._program.replies)
        (place / "script.jsonl").write_text(script)
        self._store = Store(place / "home")
        self._said: list[Said] = []
        self._before = b""

    def run(self) -> Trial:
        began = time.monotonic()
        try:
            while not self._ended():
                if self.trial.lives == MOST_LIVES:
                    raise TimeoutError(f"not at its end after {MOST_LIVES} lives")
                self._life()
            self._judge()
            self._store.sweep(never_began_s=0)
            self.trial.left += self._leftovers()
        except (TimeoutError, JournalError) as exc:
            self.trial.faults.append(f"{exc}; standard error: {self._complaint()}")
        finally:
            self.remove_containers()
            self._engine.close()
        self.trial.duration_s = round(time.monotonic() - began, 2)
        return self.trial

    def _life(self) -> None:
        directory = self._directory
        if directory is None:
            argv = [
                "run",
                "count",
                "-m",
                f"scripted:{self.place}/script.jsonl",
                "-w",
                f"{self.place}/workspace",
            ]
        else:
            argv = ["resume", directory.name]
        first = self._before.count(b"\n")
        plan = None if self._harmless else Plan.drawn(self._chance, LONGEST_S)
        lived = live([*argv, "--json"], self.place, plan, self._kill_container)
        self.trial.lives += 1
        self.trial.harness_kills += lived.exit_code is None
        self.trial.container_kills += lived.container_killed
        self._said.append(Said(first, lived.lines))
        if lived.exit_code not in (None, 0) and not (lived.exit_code == SANDBOX and lived.container_killed):
            self.trial.faults.append(f"{argv[0]} ended with {lived.exit_code}: {self._complaint()}")
        self._look_back()

    def _look_back(self) -> None:
        """What was a whole line of the journal stays one, byte for byte."""
        if self._directory is None:
            return
        now = (self._directory / FILE).read_bytes()
        if not now.startswith(self._before):
            self.trial.lost.append(f"the journal's first {len(self._before)} bytes are others now")
        self._before = now[: now.rfind(b"\n") + 1]

    @property
    def _directory(self) -> Path | None:
        """The session's own; None as long as nothing of it was journalled: then there is no session yet."""
        rows = [row for row in self._store.list() if row.status != "empty"]
        return rows[-1].directory if rows else None

    def _ended(self) -> bool:
        directory = self._directory
        if directory is None:
            return False
        last = list(read(directory))[-1].entry
        return isinstance(last, SessionEnded) and last.status == "done"

    def _judge(self) -> None:
        directory = self._directory
        assert directory is not None
        found = verify(directory)
        if not found.ok or found.torn_bytes:
            self.trial.faults.append(f"the chain: {found}")
        applied = live(["apply", directory.name], self.place, None, self._kill_container)
        if applied.exit_code != 0:
            self.trial.faults.append(f"apply ended with {applied.exit_code}: {self._complaint()}")
        entries = [record.entry for record in read(directory)]
        effects = self._program.effects
        killed = self.trial.container_kills > 0
        verdict = judge(entries, self._said, effects, self._counted(), container_killed=killed)
        self.trial.entries = len(entries)
        self.trial.acknowledged = sum(len(one.lines) for one in self._said)
        self.trial.effects = len(effects)
        self.trial.unknown = verdict.unknown
        self.trial.lost += verdict.lost
        self.trial.doubled += verdict.doubled
        self.trial.faults += verdict.faults

    def _counted(self) -> Counter[tuple[str, str]]:
        return Counter(
            (path.name, line)
            for path in (self.place / "workspace").iterdir()
            for line in path.read_text().splitlines()
        )

    def _leftovers(self) -> list[str]:
        """What a session that has ended must not leave on this machine."""
        here = str(self.place)
        left = [f"container {one['Id'][:12]} ({one['State']})" for one in self._containers()]
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        left += [f"mount {line}" for line in mounts if here in line]
        loops = Path("/sys/block").glob("loop*/loop/backing_file")
        left += [f"loop device of {path.read_text().strip()}" for path in loops if here in path.read_text()]
        left += [f"temporary file {path.name}" for path in (self.place / "tmp").iterdir()]
        for path in (self.place / "home").rglob("*"):
            if (
                path.is_socket()
                or path.name.endswith((".new", ".tmp"))
                or path.name in ("sandbox.json", "reserve")
            ):
                left.append(f"file {path.relative_to(self.place)}")
        return left

    def _containers(self) -> list[dict[str, str]]:
        """Of any session of this home, the one that was never journalled included."""
        sessions = self._store.ids()
        found = self._engine.api.containers(all=True, filters={"label": SESSION})
        return [one for one in found if one["Labels"][SESSION] in sessions and self._is_there(one["Id"])]

    def _is_there(self, container: str) -> bool:
        """Where a kill meets its own removal, Docker 20.10 goes on listing what it no longer has."""
        try:
            self._engine.api.inspect_container(container)
        except docker.errors.NotFound:
            return False
        return True

    def _kill_container(self) -> bool:
        for one in self._containers():
            if one["State"] == "running":
                with contextlib.suppress(docker.errors.APIError):  # It ends at this very moment.
                    self._engine.api.kill(one["Id"])
                    return True
        return False

    def remove_containers(self) -> None:
        for one in self._containers():
            with contextlib.suppress(docker.errors.NotFound):  # It has just gone by itself.
                self._engine.api.remove_container(one["Id"], force=True)

    def _complaint(self) -> str:
        return (self.place / "err").read_text(errors="replace").strip()[-3000:]
