"""Weighing a directory that is too large to copy, so that the refusal can name what to leave out."""

from __future__ import annotations

import os
import stat
from collections import Counter

from policies.schema import Limits
from sandbox.workspace import beneath
from sandbox.workspace.copyfile import Rules


class Weighing:
    """Sums what would have gone in by top-level name, without copying, so that a refusal can name sizes."""

    def __init__(self, rules: Rules, top: os.stat_result, forbidden: frozenset[tuple[int, int]]) -> None:
        self._rules = rules
        self._top = top
        self._forbidden = forbidden
        self._weight: Counter[str] = Counter()
        self._count = 0

    def report(self, from_: int, limits: Limits) -> str:
        self._directory(from_, "", 0)
        largest = ", ".join(f"{name!r} {size >> 20:,} MB" for name, size in self._weight.most_common(3))
        return (
            f"the directory holds {self._weight.total() >> 20:,} MB in {self._count:,} files, the policy "
            f"allows {limits.workspace_mb:,} MB in {limits.workspace_inodes:,} files (largest: {largest}); "
            "leave something out with [workspace] exclude, or raise [limits] workspace_mb or workspace_inodes"
        )

    def _directory(self, from_: int, prefix: str, depth: int) -> None:
        with os.scandir(from_) as listing:
            for item in listing:
                path = prefix + item.name
                found = item.stat(follow_symlinks=False)
                if not stat.S_ISDIR(found.st_mode):
                    if not self._rules.file(path):
                        self._add(path, min(found.st_size, found.st_blocks * 512))
                elif not self._barred(found, path, depth):
                    self._add(path, 0)
                    self._below(from_, path, item.name, depth + 1)

    def _add(self, path: str, size: int) -> None:
        self._count += 1
        self._weight[path.partition("/")[0]] += size

    def _barred(self, found: os.stat_result, path: str, depth: int) -> bool:
        identity = (found.st_dev, found.st_ino)
        elsewhere = found.st_dev != self._top.st_dev or identity in self._forbidden
        return elsewhere or depth >= beneath.MAX_DEPTH or bool(self._rules.directory(path))

    def _below(self, from_: int, path: str, name: str, depth: int) -> None:
        try:
            below = beneath.enter(from_, name)
        except OSError:
            return  # left out of the copy as well
        try:
            self._directory(below, f"{path}/", depth)
        finally:
            os.close(below)
