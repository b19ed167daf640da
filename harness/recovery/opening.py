"""Opening a session to go on with it: one pass over its journal checks each line and rebuilds the session."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.journal.writer import Journal
from harness.recovery.rebuild import Rebuilder
from harness.recovery.rebuilt import Rebuilt


def opened(directory: Path) -> tuple[Journal, Rebuilt]:
    """The journal, which is the caller's to close, and the session as it tells it. JournalError. Blocks."""
    told = Rebuilder()
    with _uncollected():
        journal = Journal.open(directory, told=told.feed)
        try:
            return journal, told.rebuilt()
        except BaseException:
            journal.close()
            raise


@contextmanager
def _uncollected() -> Iterator[None]:
    """All that is made meanwhile stays; looking through it for garbage again and again takes a third of the
    time.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            # Into the oldest generation, unread: the first round would look through all of it at once.
            gc.freeze()
            gc.unfreeze()
            gc.enable()
