"""Sharing: checkpoints of one session in the store of another.

Packs and the small files of checkpoints are never altered once they are there, so they are hard-linked: it
costs no bytes, and either session may collect its own names of them. The source may be running, and
collecting, meanwhile; it is only read.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from sandbox.checkpoints.errors import CheckpointError
from sandbox.checkpoints.packs import SUFFIX
from sandbox.checkpoints.store import DIRECTORY, file_of

_TRIES = 10
"""A collector that is at work replaces packs by others; it never does so ten times in a row."""


def link(source: Path, target: Path, numbers: Iterable[int]) -> None:
    """Give the session `target` all packs of `source`, and those of these checkpoints that are there.

    The names are durable once the store's directory is synced. CheckpointError when the packs cannot be had.
    """
    theirs, ours = source / DIRECTORY, target / DIRECTORY
    ours.mkdir(mode=0o700, exist_ok=True)
    ours.chmod(0o700)
    try:
        for number in numbers:
            _linked(file_of(theirs, number), file_of(ours, number))
        for _ in range(_TRIES):
            # What a collector took away after it was listed stands in a newer pack.
            if all(_linked(path, ours / path.name) for path in sorted(theirs.glob(f"*{SUFFIX}"))):
                break
        else:
            raise CheckpointError("the checkpoints are being collected right now; try again")
    except OSError as error:
        raise CheckpointError(f"the checkpoints cannot be shared: {error.strerror or error}") from error


def _linked(source: Path, target: Path) -> bool:
    try:
        os.link(source, target, follow_symlinks=False)
    except FileExistsError:
        return True
    except FileNotFoundError:
        return False
    return True
