"""The workspace: a large tree copied in beside `cp -a`, or laid under an overlay; the review of a few edits.

Both copies go into storage of their own, made anew each time and alike: the session's file-system image where
this process may mount one, a plain directory otherwise. Making it is not timed; it is shown by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import os
import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from harness.commands.changes import diff
from harness.store import Store
from sandbox import workspace
from sandbox.hardening import sandbox_user
from tests.bench.figure import Beside, Figure, NotMeasured, Target
from tests.bench.place import Bench
from tests.bench.sampling import Contender, Series, interleaved, single

FILES, BYTES = 20_000, 200_000_000
EDITS = 10


async def measure(bench: Bench) -> list[Figure]:
    files = bench.count(FILES, 1_000)
    with bench.directory() as scratch:
        source = scratch / "source"
        total = await asyncio.to_thread(make_tree, source, files, files * BYTES // FILES)
        ours, cp, made = await _copies(bench, scratch, source, files)
        review = await _reviews(bench, scratch, source, _copy_in)
        over, seen = await _overlays(bench, scratch, source, files)
    title = f"workspace of {files:,} files, {total / 1e6:.0f} MB"
    return [
        Figure(f"{title}: copied in", ours, None, (Beside(cp, most=1.5),)),
        Figure("empty storage for a workspace", made),
        Figure(f"{title}: `diff` after {EDITS} edits", review, Target(1.0)),
        *([Figure(f"{title}: opened as an overlay", over)] if over else []),
        *([Figure(f"{title}: `diff` of the overlay after {EDITS} edits", seen)] if seen else []),
    ]


async def _overlays(
    bench: Bench, scratch: Path, source: Path, files: int
) -> tuple[Series | None, Series | None]:
    """Opening and reviewing the same as an overlay; nothing where this process may not mount one."""
    if workspace.exact_unavailable() is not None:
        return None, None
    await asyncio.to_thread(_given, source)
    numbers = itertools.count()

    async def lay_over() -> float:
        session = _session(scratch / f"over-{next(numbers)}", bench, [])
        try:
            return await asyncio.to_thread(_lay_over, source, session, bench, files)
        finally:
            await asyncio.to_thread(_dropped, session)

    (over,) = await interleaved(bench.count(7, 2), Contender("usermode", lay_over))
    return over, await _reviews(bench, scratch, source, _lay_over)


async def _copies(bench: Bench, scratch: Path, source: Path, files: int) -> tuple[Series, Series, Series]:
    numbers = itertools.count()
    made: list[float] = []

    async def copy_in() -> float:
        session = _session(scratch / f"ours-{next(numbers)}", bench, made)
        try:
            return await asyncio.to_thread(_copy_in, source, session, bench, files)
        finally:
            await asyncio.to_thread(_dropped, session)

    async def cp() -> float:
        session = _session(scratch / f"cp-{next(numbers)}", bench, made)
        try:
            return await asyncio.to_thread(_cp, source, workspace.storage_of(session).path)
        finally:
            await asyncio.to_thread(_dropped, session)

    ours, theirs = await interleaved(
        bench.count(7, 2), Contender("usermode", copy_in), Contender("cp -a", cp)
    )
    return ours, theirs, single("usermode", made)


Filler = Callable[[Path, Path, Bench, int], float]


async def _reviews(bench: Bench, scratch: Path, source: Path, fill: Filler) -> Series:
    session = await asyncio.to_thread(Store(scratch / "home").new_session)
    try:
        await asyncio.to_thread(_session, session, bench, [])
        await asyncio.to_thread(fill, source, session, bench, 0)
        edited = await asyncio.to_thread(_edit, workspace.storage_of(session).path)

        async def once() -> float:
            # As `usermode diff` finds it when the session has ended: not mounted.
            await asyncio.to_thread(workspace.release, session)
            return await asyncio.to_thread(_diff, session, edited)

        (review,) = await interleaved(bench.count(10, 2), Contender("usermode", once))
        return review
    finally:
        await asyncio.to_thread(_dropped, session)


def _diff(session: Path, edited: int) -> float:
    """What `usermode diff` does, from the session's name to the last line on the screen."""
    screen = io.StringIO()
    home = {"USERMODE_HOME": str(session.parent.parent)}
    started = time.perf_counter()
    with mock.patch.dict(os.environ, home), contextlib.redirect_stdout(screen):
        diff(session.name, None)
    took = time.perf_counter() - started
    lines = screen.getvalue().count("\n+# edited\n")
    if lines != edited:
        raise NotMeasured(f"{lines} edits were shown of {edited}")
    return took


def _edit(tree: Path) -> int:
    """Append a line to EDITS files, far apart; returns how many there were."""
    programs = sorted(tree.rglob("*.py"))
    chosen = programs[:: max(1, len(programs) // EDITS)][:EDITS]
    for path in chosen:
        with open(path, "a", encoding="utf-8") as file:
            file.write("\n# edited\n")
    return len(chosen)


def _session(directory: Path, bench: Bench, made: list[float]) -> Path:
    """A session's directory with empty storage; `made` learns how long that took."""
    directory.mkdir(mode=0o700, exist_ok=True)
    uid, gid = sandbox_user()
    started = time.perf_counter()
    workspace.prepare(directory, bench.policy.limits, uid=uid, gid=gid)
    made.append(time.perf_counter() - started)
    os.sync()
    return directory


def _copy_in(source: Path, session: Path, bench: Bench, files: int) -> float:
    uid, gid = sandbox_user()
    started = time.perf_counter()
    report = workspace.copy_in(source, session, limits=bench.policy.limits, uid=uid, gid=gid)
    took = time.perf_counter() - started
    if report.files < files or report.excluded:
        raise NotMeasured(f"{report.files} entries went in, {len(report.excluded)} did not")
    return took


def _given(source: Path) -> None:
    """To the user that sessions run as: an overlay gives no file another owner."""
    uid, gid = sandbox_user()
    for path in (source, *source.rglob("*")):
        os.chown(path, uid, gid, follow_symlinks=False)


def _lay_over(source: Path, session: Path, bench: Bench, files: int) -> float:
    uid, gid = sandbox_user()
    started = time.perf_counter()
    report = workspace.lay_over(workspace.Under(source, uid, gid), session)
    took = time.perf_counter() - started
    if report.files < files or report.excluded:
        raise NotMeasured(f"{report.files} entries were seen, {len(report.excluded)} were hidden")
    return took


def _cp(source: Path, target: Path) -> float:
    started = time.perf_counter()
    subprocess.run(["cp", "-a", f"{source}/.", str(target)], check=True, stdin=subprocess.DEVNULL)
    return time.perf_counter() - started


def _dropped(session: Path) -> None:
    workspace.discard(session)
    os.sync()


def make_tree(top: Path, files: int, size: int) -> int:
    """A project as they are: many small files, few large ones, directories five deep. Returns its bytes."""
    chance = random.Random(20_000)
    # Log-normal, as sizes of source files are; scaled to the total asked for.
    weights = [chance.lognormvariate(0, 1.5) for _ in range(files)]
    scale = size / sum(weights)
    line = b"value = compute(argument, other)  # a line as any other\n"
    text = line * (1 + (1 << 20) // len(line))
    total = 0
    for number, weight in enumerate(weights):
        parts = [f"part{number // step % 12}" for step in (12, 144, 1_728)]
        directory = top.joinpath("src", *parts[: 1 + number % 3])
        directory.mkdir(parents=True, exist_ok=True)
        length = max(1, round(weight * scale))
        content = (
            text[:length]
            if length <= len(text)
            else text * (length // len(text)) + text[: length % len(text)]
        )
        (directory / f"module{number}.{('py', 'js', 'json', 'txt')[number % 4]}").write_bytes(content)
        total += len(content)
    return total
