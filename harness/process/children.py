"""Children (fork and wait): sessions that a call of this one starts, as far as syscalls know of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol

from harness.messages import JsonObject, Usage
from harness.process.budget import Budget
from harness.process.session import Child
from harness.process.traffic import Traffic
from policies.schema import Policy
from sandbox.checkpoints.compare import Difference, differences
from sandbox.checkpoints.errors import CheckpointError
from sandbox.checkpoints.store import Checkpoint, Store
from sandbox.checkpoints.tree import OMITTED


@dataclass(frozen=True)
class Errand:
    """What a child is started for."""

    name: str
    task: str
    call_id: str
    policy: Policy
    """The child's: nowhere wider than its parent's."""
    budget: Budget
    """A part of the parent's."""
    mergeable: bool
    on_output: Callable[[str, int], None] | None = None
    """Told what it does, and how many calls it made; None when nobody watches."""


@dataclass(frozen=True)
class Returned:
    """What came of a child. It stands on the host; the words are the child's."""

    session: str
    status: str
    """As a session's end has it, or `interrupted` for one whose harness was killed."""
    reason: str
    said: str = ""
    """Its last message."""
    turns: int = 0
    usage: Usage = field(default_factory=Usage)
    cost_usd: float | None = 0.0
    traffic: Traffic = field(default_factory=Traffic)
    unkept: str = ""
    """Why its last changes are not among what can be merged; empty where they are."""

    @property
    def spent(self) -> JsonObject:
        return {
            "turns": self.turns,
            "usage": self.usage.model_dump(),
            "cost_usd": self.cost_usd,
            **asdict(self.traffic),
        }


class Children(Protocol):
    """Starts children for one session."""

    async def run(self, errand: Errand) -> Returned:
        """Start one on a snapshot of the workspace and wait for its end; its container is gone then.

        Cancelled, it ends the child first, and returns what there is of it. Refused when it could not be
        started; JournalError when that could not be written down.
        """

    async def collect(self, child: Child) -> Returned:
        """What is known of one whose harness was killed, after ending what is left of it. Blocks nobody else.

        SandboxError when it cannot be ended.
        """

    def directory(self, child: Child) -> Path:
        """Where its journal and its checkpoints are."""


@dataclass(frozen=True)
class Changed:
    """What a child changed: of its first checkpoint and its last."""

    store: Store
    found: tuple[Difference, ...]


def changed(directory: Path) -> Changed:
    """Open its store; close that afterwards. CheckpointError for one that has none. Blocks."""
    store = Store(directory)
    try:
        first, last = _ends(store)
        every = differences(store.packs, first.root, last.root)
        # What no checkpoint keeps was never given to it, so it did not take it away either.
        found = tuple(one for one in every if one.before is None or one.before.kind != OMITTED)
    except BaseException:
        store.packs.close()
        raise
    return Changed(store, found)


def _ends(store: Store) -> tuple[Checkpoint, Checkpoint]:
    numbers = store.numbers()
    if not numbers or numbers[0] != 0:
        raise CheckpointError("what it began with is not kept any more, so what it changed cannot be told")
    return store.load(0), store.load(numbers[-1])
