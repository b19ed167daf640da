"""`make soak`: sessions of a real harness over real containers, killed at random instants until they end.

    python -m tests.soak --kills 1000 [--seed N] [--log FILE [--go-on]] [--json FILE]

Ends with 0 only if nothing was lost, nothing was done twice and nothing was left behind. With --go-on the
sessions that stand in the log count, and it goes on with the next.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict
from pathlib import Path

from tests.soak.program import STEPS
from tests.soak.trial import Session, Trial

BESIDE = 2
"""Sessions side by side."""


def soak(
    kills: int, seed: int, place: Path, *, beside: int = BESIDE, steps: int = STEPS, doubled: bool = False,
    done: Sequence[Trial] = (), log: Path | None = None,
) -> list[Trial]:  # fmt: skip
    """Sessions until so many kills are reached; those of `done` count. Prints a line a session."""
    trials = list(done)
    number = len(trials)
    running: set[Future[Trial]] = set()

    def one(seed: int) -> Trial:
        where = place / f"session-{seed}"
        trial = Session(seed, where, steps=steps, doubled=doubled).run()
        if trial.sound:
            shutil.rmtree(where)
        return trial

    with ThreadPoolExecutor(beside) as pool:
        while running or sum(trial.kills for trial in trials) < kills:
            while len(running) < beside and sum(trial.kills for trial in trials) < kills:
                running.add(pool.submit(one, seed * 1_000_000 + number))
                number += 1
            ended, running = wait(running, return_when=FIRST_COMPLETED)
            for future in ended:
                trials.append(future.result())
                print(line(trials[-1]), flush=True)
                if log is not None:
                    with log.open("a") as file:
                        file.write(json.dumps(asdict(trials[-1])) + "\n")
    return trials


def line(trial: Trial) -> str:
    """One session in a line, and whatever is wrong with it below."""
    text = (
        f"session {trial.seed}: {trial.kills:3} kills ({trial.container_kills} of the container), "
        f"{trial.entries:3} entries, {trial.effects:2} effects, {trial.unknown} unknown, "
        f"{trial.duration_s:4.1f} s"
    )
    wrong = [
        f"\n    {name}: {what}"
        for name in ("lost", "doubled", "left", "faults")
        for what in getattr(trial, name)
    ]
    return text + "".join(wrong)


def summary(trials: Sequence[Trial], seconds: float) -> dict[str, float]:
    def total(name: str) -> int:
        values = [getattr(trial, name) for trial in trials]
        return sum(len(value) if isinstance(value, list) else value for value in values)

    return {
        "sessions": len(trials),
        "kills": total("kills"),
        "of the harness": total("harness_kills"),
        "of the container": total("container_kills"),
        "entries acknowledged": total("acknowledged"),
        "effects": total("effects"),
        "told as unknown": total("unknown"),
        "lost": total("lost"),
        "doubled": total("doubled"),
        "left behind": total("left"),
        "other faults": total("faults"),
        "seconds": round(seconds, 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--log", type=Path, help="a JSON line for each session")
    parser.add_argument("--go-on", action="store_true", help="count the sessions of the log")
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--plant", choices=["doubled"], help="a fault that must be found")
    given = parser.parse_args()
    done: list[Trial] = []
    if given.log is not None and given.log.exists():
        if given.go_on:
            done = [Trial(**json.loads(text)) for text in given.log.read_text().splitlines()]
        else:
            given.log.unlink()
    place = Path(tempfile.mkdtemp(prefix="usermode-soak-"))
    began = time.monotonic()
    trials = soak(given.kills, given.seed, place, doubled=given.plant == "doubled", done=done, log=given.log)
    figures = summary(trials, time.monotonic() - began + sum(trial.duration_s for trial in done) / BESIDE)
    print()
    for name, value in figures.items():
        print(f"{name:<22}{value:>8,}")
    if given.json is not None:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(figures, indent=1) + "\n")
    if all(trial.sound for trial in trials):
        shutil.rmtree(place)
        return 0
    print(f"what is unsound is kept in {place}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
