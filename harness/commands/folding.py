"""A review's rows folded by directory: what a `pip install` left is one row, and the odd file still shows.

Only rows with the same reason fold together, so that a file which stands apart for a reason of its own is
never hidden behind the many.
"""

from __future__ import annotations

import os.path
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from sandbox.workspace.review import Change

FOLDED = 20
"""More rows than this beneath one directory, for one reason, become a single row."""


@dataclass(frozen=True)
class Fold:
    """Changes shown as one row."""

    directory: str
    """The deepest that holds them all."""
    reason: str
    changes: tuple[Change, ...]


def folded(changes: Iterable[Change]) -> tuple[list[Fold], list[Change]]:
    """The folds, and the changes that stay rows of their own."""
    listed = list(changes)
    sizes = Counter((change.executes, above) for change in listed for above in _above(change.path))
    gathered: dict[tuple[str, str], list[Change]] = {}
    single: list[Change] = []
    for change in listed:
        # The outermost one: a tree of packages has many directories and is one thing.
        crowded = next((top for top in _above(change.path) if sizes[change.executes, top] > FOLDED), None)
        if crowded is None:
            single.append(change)
        else:
            gathered.setdefault((crowded, change.executes or ""), []).append(change)
    return [_fold(reason, together) for (_, reason), together in gathered.items()], single


def _above(path: str) -> Iterator[str]:
    """The directories above a path, outermost first; the root is none of them."""
    end = path.find("/")
    while end >= 0:
        yield path[:end]
        end = path.find("/", end + 1)


def _fold(reason: str, changes: Sequence[Change]) -> Fold:
    directory = os.path.commonpath([change.path.rpartition("/")[0] for change in changes])
    return Fold(directory, reason, tuple(changes))
