"""One life of a harness: a real process that runs the command line, and is killed when its time has come.

The processes are forked from a server that has usermode imported already, so that they spend their lives in
sessions and not in imports. Nothing else is shared: each has its own pid, environment, locks and sockets.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path

# What a session needs, for the server to have it.
import harness.boot.resume
import harness.commands.changes
import harness.commands.place
import harness.commands.resume
import harness.commands.run
import harness.providers.scripted  # noqa: F401
from harness.cli import main

STUCK_S = 60.0
"""No life here takes more than a few seconds."""
LOOK_S = 0.25

_FORK = multiprocessing.get_context("forkserver")
_ONE = threading.Lock()
"""Starting a process asks all others whether they have ended, and an exit status can be read only once."""
_FORK.set_forkserver_preload([__name__])


@dataclass(frozen=True)
class Plan:
    """How a life is cut short: so long after its start, or after its nth event and a moment more."""

    after_s: float
    after_events: int = 0
    container: bool = False
    """It is the session's container that is killed; the harness lives."""

    @classmethod
    def drawn(cls, chance: random.Random, longest_s: float) -> Plan:
        share = chance.random()
        if share < 0.3:
            return cls(chance.uniform(0, 0.005), chance.randrange(1, 25))
        return cls(chance.uniform(0, longest_s), container=share > 0.9)


@dataclass(frozen=True)
class Lived:
    exit_code: int | None
    """None of a harness that was killed."""
    lines: tuple[str, ...]
    """Whole lines of its standard output: what it had said when it ended."""
    container_killed: bool


def live(argv: Sequence[str], place: Path, plan: Plan | None, kill_container: Callable[[], bool]) -> Lived:
    """Run `usermode ARGV` as long as the plan lets it, everything it makes in `place`.

    `kill_container` says whether there was one. TimeoutError for a life that does not end.
    """
    pipe = place / "out"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    process = _FORK.Process(target=_usermode, args=(tuple(argv), str(place)), daemon=True)
    with _ONE:
        process.start()
    began = time.monotonic()
    said, hit = bytearray(), False
    due = began + plan.after_s if plan is not None and not plan.after_events else None
    try:
        while not wait([process.sentinel], 0):
            now = time.monotonic()
            if now - began > STUCK_S:
                raise TimeoutError(f"usermode {' '.join(argv)} has not ended after {STUCK_S:g} s")
            if plan is not None and due is None and said.count(b"\n") >= plan.after_events:
                due = now + plan.after_s
            if plan is not None and due is not None and now >= due:
                if not plan.container:
                    process.kill()
                    plan = due = None
                elif hit := kill_container():
                    plan = due = None
                else:
                    due = now + LOOK_S / 10  # It has none yet.
            wait([process.sentinel, reader], LOOK_S if due is None else max(0.0, min(LOOK_S, due - now)))
            said += _drained(reader)
        said += _drained(reader)
        with _ONE:
            process.join()
            code = process.exitcode
    finally:
        process.kill()
        with _ONE:
            process.join()
            process.close()
        os.close(reader)
        pipe.unlink()
    lines = said.decode().split("\n")[:-1]
    return Lived(None if code == -signal.SIGKILL else code, tuple(lines), hit)


def _drained(reader: int) -> bytes:
    data = bytearray()
    with contextlib.suppress(BlockingIOError):
        while piece := os.read(reader, 1 << 16):
            data += piece
    return bytes(data)


def _usermode(argv: Sequence[str], place: str) -> None:
    os.dup2(os.open(f"{place}/out", os.O_WRONLY), 1)
    os.dup2(os.open(f"{place}/err", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 2)
    os.environ.update(USERMODE_HOME=f"{place}/home", TMPDIR=f"{place}/tmp", USERMODE_DEBUG="1")
    tempfile.tempdir = None
    sys.argv = ["usermode", *argv]
    main()
