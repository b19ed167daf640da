"""Which changes a user means by the paths given, and why some of those still do not come."""

from __future__ import annotations

import os
from collections.abc import Sequence

from sandbox.workspace import executes
from sandbox.workspace.review import Change, Review


def selected(review: Review, paths: Sequence[str] | None) -> list[Change]:
    """The changes at or beneath any of these relative paths; all without paths."""
    if paths is None:
        return list(review.changes)
    wanted = [plain(path) for path in paths]
    return [change for change in review.changes if any(covers(path, change.path) for path in wanted)]


def plain(path: str) -> str:
    """A path as a person writes it (`./a/`, `.`) in the review's form; the root is the empty path."""
    normal = os.path.normpath(path) if path else "."
    return "" if normal == "." else normal


def covers(path: str, other: str) -> bool:
    """Whether `other` is this path or lies beneath it."""
    return not path or other == path or other.startswith(f"{path}/")


class Choice:
    """Which changes the user asked for, and why some of them still do not come."""

    def __init__(
        self,
        paths: Sequence[str] | None,
        *,
        force: bool = False,
        executable: bool = False,
        exactly: bool = False,
        reviewed: Review | None = None,
    ) -> None:
        self._paths = None if paths is None else [plain(path) for path in paths]
        self._exact = frozenset(self._paths or ()) if exactly else None
        self._force = force
        self._executable = executable
        self._reviewed = None if reviewed is None else {change.path: change for change in reviewed.changes}

    def unmatched(self, review: Review) -> list[tuple[str, str]]:
        """Paths that name no change: a spelling mistake must not look like success."""
        return [
            (path or ".", "nothing changed here")
            for path in self._paths or ()
            if not any(covers(path, change.path) for change in review.changes)
        ]

    def asked_for(self, change: Change) -> bool:
        if self._exact is not None:
            return change.path in self._exact
        return self._paths is None or any(covers(path, change.path) for path in self._paths)

    def refusal(self, change: Change) -> str | None:
        if change.blocked:
            return change.blocked
        named = self._paths is not None and change.path in self._paths
        if change.executes and not (named or self._executable):
            return f"{change.executes}: name it to apply it, or add --executable"
        if change.git and not change.executes and not self._names_git(change):
            return "inside .git: name the path to apply it"
        if change.conflict and not self._force:
            return f"conflict: {change.conflict}; --force overwrites"
        if self._reviewed is not None:
            before = self._reviewed.get(change.path)
            if before is None or (before.seen, before.yours) != (change.seen, change.yours):
                return "changed since it was reviewed"
        return None

    def _names_git(self, change: Change) -> bool:
        if self._exact is not None:
            return change.path in self._exact
        from_git = change.path[: _git_start(change.path)]
        return any(covers(from_git, path) and covers(path, change.path) for path in self._paths or () if path)


def _git_start(path: str) -> int:
    """Where the first `.git` component of a path ends."""
    end = 0
    for component in path.split("/"):
        end += len(component) + 1
        if executes.in_git(component):
            break
    return end - 1
