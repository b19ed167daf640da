"""Checkpoints: a large tree kept for the first time, and again after a few edits; and brought back."""

from __future__ import annotations

import asyncio
import os
import random
import time
from pathlib import Path

from sandbox.checkpoints.restore import Restore
from sandbox.checkpoints.store import Bounds, Checkpoint, Writer
from sandbox.workspace import beneath
from tests.bench.figure import Figure, Target
from tests.bench.place import Bench
from tests.bench.sampling import single
from tests.bench.workspace import make_tree

FILES, BYTES = 20_000, 200_000_000
EDITS = 10
SETTLED_S = 8.0
"""After this long a file counts as old; younger ones are read again. And the disk has done with what another
benchmark removed.
"""


async def measure(bench: Bench) -> list[Figure]:
    files, rounds = bench.count(FILES, 1_000), bench.count(10, 3)
    with bench.directory() as scratch:
        session = scratch / "session"
        tree = session / "workspace" / "tree"
        tree.parent.mkdir(parents=True)
        await asyncio.to_thread(make_tree, tree, files, files * BYTES // FILES)
        os.sync()
        cold, warm, back = await asyncio.to_thread(_times, session, tree, rounds)
    title = f"checkpoint of {files:,} files"
    return [
        Figure(f"{title}, the first", single("the first", [cold]), Target(3.0)),
        Figure(f"{title} after {EDITS} edits", single("ten edits", warm), Target(0.150)),
        Figure(f"{title}: brought back after {EDITS} edits", single("brought back", [back])),
    ]


def _times(session: Path, tree: Path, rounds: int) -> tuple[float, list[float], float]:
    time.sleep(SETTLED_S)
    dice = random.Random(1)
    with Writer(session, Bounds(4096, 100)) as writer:
        cold, first = _taken(writer)
        paths = sorted(path for path in tree.rglob("*") if path.is_file())
        warm = []
        for _ in range(rounds):
            for path in dice.sample(paths, EDITS):
                path.write_bytes(dice.randbytes(10_000))
            warm.append(_taken(writer)[0])
        began = time.perf_counter()
        with beneath.root(tree) as top:
            Restore(writer.packs).run(top, first.root)
        return cold, warm, time.perf_counter() - began


def _taken(writer: Writer) -> tuple[float, Checkpoint]:
    began = time.perf_counter()
    taken = writer.take()
    took = time.perf_counter() - began
    assert taken is not None
    return took, taken
