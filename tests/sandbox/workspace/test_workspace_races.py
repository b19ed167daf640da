"""The guest changes the tree while the host works in it. Canaries outside must neither change nor be read."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from workspace_session import Session, fill

from sandbox.workspace import discard
from sandbox.workspace.accept import apply
from sandbox.workspace.compare import changes
from sandbox.workspace.difftext import diff_text

CANARY = "host canary"


@contextmanager
def meanwhile(act: Callable[[], None]) -> Iterator[None]:
    """Do this over and over in another thread."""
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            with suppress(OSError):
                act()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def outside(tmp_path: Path) -> Path:
    top = tmp_path / "outside"
    fill(top, {"secret": CANARY, "keep": CANARY})
    return top


def contents(top: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in top.iterdir()}


def swap_directory(place: Path, target: Path) -> Callable[[], None]:
    """Now a directory, now a symlink to `target`."""
    aside = place.with_name("aside")

    def act() -> None:
        place.rename(aside)
        place.symlink_to(target)
        place.unlink()
        aside.rename(place)

    return act


def swap_file(place: Path, target: Path) -> Callable[[], None]:
    def act() -> None:
        place.unlink()
        place.symlink_to(target)
        place.unlink()
        os.mkfifo(place)
        place.unlink()
        place.write_text("guest")

    return act


def test_a_directory_swapped_for_a_symlink_leads_nowhere(
    tmp_path: Path, source: Path, session: Session
) -> None:
    host = outside(tmp_path)
    fill(session.copy, {"d/secret": "guest", "d/keep": "guest"})
    shown: list[str] = []
    with meanwhile(swap_directory(session.copy / "d", host)):
        for _ in range(40):
            changes(session.dir)
            shown += diff_text(session.dir)
            apply(session.dir, force=True, executable=True)
    assert not any(CANARY in line for line in shown)
    assert contents(host) == {"secret": CANARY, "keep": CANARY}
    assert all(CANARY not in path.read_text() for path in (source / "d").glob("*"))


def test_a_file_swapped_for_a_symlink_or_fifo_is_neither_read_nor_waited_for(
    tmp_path: Path, source: Path, session: Session
) -> None:
    host = outside(tmp_path)
    fill(session.copy, {"f": "guest"})
    shown: list[str] = []
    with meanwhile(swap_file(session.copy / "f", host / "secret")):
        for _ in range(40):
            shown += diff_text(session.dir)
            apply(session.dir, force=True, executable=True)
    assert not any(CANARY in line for line in shown)
    assert not (source / "f").exists() or (source / "f").read_text() in ("", "guest")


def test_the_users_own_directory_swapped_for_a_symlink_is_not_written_through(
    tmp_path: Path, source: Path, session: Session
) -> None:
    host = outside(tmp_path)
    with meanwhile(swap_directory(source / "src", host)):
        for n in range(40):
            fill(session.copy, {"src/secret": f"guest {n}", "src/keep": f"guest {n}", f"src/new{n}": "guest"})
            apply(session.dir, force=True, executable=True)
    assert contents(host) == {"secret": CANARY, "keep": CANARY}


def test_discarding_a_tree_that_is_swapped_meanwhile_removes_nothing_outside(
    tmp_path: Path, session: Session
) -> None:
    host = outside(tmp_path)
    spare = tmp_path / "spare"
    for n in range(20):
        fill(session.copy, {f"d{n}/x/secret": "guest", f"d{n}/x/keep": "guest"})

    def act() -> None:
        for n in range(20):
            (session.copy / f"d{n}/x").rename(spare)
            (session.copy / f"d{n}/x").symlink_to(host)
            shutil.rmtree(spare)

    with meanwhile(act), suppress(OSError):
        discard(session.dir)
    assert contents(host) == {"secret": CANARY, "keep": CANARY}
