"""The disk watchdog: keeps a limit that the file system cannot keep itself.

Twenty times a second it asks the file system how much is free, which costs microseconds; only when enough of
it has gone to matter (or every few seconds) is the workspace itself summed up. Past the limit and still
growing, it calls back, and the sandbox ends what runs: what frees space again is left alone.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from policies.schema import Limits
from sandbox.workspace import beneath

Exceeded = Callable[[str], Awaitable[None]]
"""Called with one line that says what was exceeded and by how much."""

_EVERY_S = 0.05
_SCAN_AT_LEAST_EVERY_S = 5.0
_HOST_RESERVE = 256 << 20
"""Free bytes of the host's file system below which growth counts as past the limit: a deleted file that is
held open is on no list, but it fills the disk all the same."""
_SHARE = 4
"""A scan is due when the file system lost this fraction (one in …) of what was left of a limit."""


@dataclass(frozen=True)
class Usage:
    bytes: int
    """Allocated on disk; a hole costs nothing."""
    inodes: int
    measured: bool
    """False when directories lie too deep to be summed."""


def usage(path: Path, stop_after: int) -> Usage:
    """Sum up a tree by directory descriptors, counting at most `stop_after` names."""
    sums = [0, 0]
    with beneath.root(path) as top:
        measured = _add(top, sums, stop_after, 0)
    return Usage(sums[0], sums[1], measured)


def _add(here: int, sums: list[int], stop_after: int, depth: int) -> bool:
    """Add one directory to the sums; false when something in it lies too deep."""
    below: list[str] = []
    with os.scandir(here) as listing:
        for item in listing:
            try:
                status = item.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            sums[0] += status.st_blocks * 512
            sums[1] += 1
            if sums[1] >= stop_after:
                return True
            if stat.S_ISDIR(status.st_mode):
                below.append(item.name)
    if below and depth >= beneath.MAX_DEPTH:
        return False
    measured = True
    for name in below:
        try:
            descriptor = beneath.enter(here, name)
        except OSError:
            continue  # gone, or swapped for something that holds nothing
        try:
            measured &= _add(descriptor, sums, stop_after, depth + 1)
        finally:
            os.close(descriptor)
    return measured


class Watchdog:
    """`async with Watchdog(path, limits, exceeded):` watches for as long as the block lasts."""

    def __init__(self, path: Path, limits: Limits, exceeded: Exceeded) -> None:
        self._path = path
        self._bytes = limits.workspace_mb << 20
        self._inodes = limits.workspace_inodes
        self._exceeded = exceeded
        self._task: asyncio.Task[None] | None = None
        self._last = Usage(0, 0, True)
        self.overshoot_bytes = 0
        """The most that was ever measured beyond the limit."""

    async def __aenter__(self) -> Watchdog:
        first = await self._scan()
        self._task = asyncio.create_task(self._guard(first), name="disk watchdog")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._task is not None
        self._task.cancel()
        [outcome] = await asyncio.gather(self._task, return_exceptions=True)
        # What is gone went with its container, and nothing grows there any more.
        if isinstance(outcome, Exception) and not isinstance(outcome, FileNotFoundError):
            raise outcome

    async def _guard(self, first: os.statvfs_result) -> None:
        try:
            await self._watch(first)
        except OSError as error:
            # Blind is as good as exceeded: nothing runs without a limit.
            await self._exceeded(f"the workspace cannot be watched: {error}")
            raise

    async def _watch(self, first: os.statvfs_result) -> None:
        loop = asyncio.get_running_loop()
        blocks, files = first.f_bfree, first.f_ffree
        at_scan = blocks
        scanned = loop.time()
        while True:
            await asyncio.sleep(_EVERY_S)
            now = os.statvfs(self._path)
            # From the most that was free since the last scan: what was deleted meanwhile, here or elsewhere,
            # must not hide as much being written.
            blocks, files = max(blocks, now.f_bfree), max(files, now.f_ffree)
            lost = (blocks - now.f_bfree) * now.f_frsize
            names = files - now.f_ffree
            freed = (blocks - at_scan) * now.f_frsize
            due = loop.time() - scanned > _SCAN_AT_LEAST_EVERY_S
            if lost > 0 and now.f_bavail * now.f_frsize < _HOST_RESERVE:
                await self._exceeded("the host's disk is nearly full")
            if due or freed > self._bytes // _SHARE or self._worth_a_scan(lost, names):
                before, then = self._last, await self._scan()
                if (why := self._too_much(before)) is not None:
                    await self._exceeded(why)
                    # What was still written until all had ended is nothing that the next command did.
                    then = await self._scan()
                blocks, files, at_scan = then.f_bfree, then.f_ffree, then.f_bfree
                scanned = loop.time()

    def _worth_a_scan(self, lost: int, names: int) -> bool:
        bytes_left = max(self._bytes - self._last.bytes, 0)
        inodes_left = max(self._inodes - self._last.inodes, 0)
        return lost > bytes_left // _SHARE or names > inodes_left // _SHARE

    async def _scan(self) -> os.statvfs_result:
        """Sum up the tree; returns what was free before that, so that nothing comes in between."""
        free = os.statvfs(self._path)
        # Counting a little past the limit is enough to know that it is exceeded.
        self._last = await asyncio.to_thread(usage, self._path, 2 * self._inodes + 1000)
        self.overshoot_bytes = max(self.overshoot_bytes, self._last.bytes - self._bytes)
        return free

    def _too_much(self, before: Usage) -> str | None:
        now = self._last
        if now.bytes > self._bytes and now.bytes > before.bytes:
            held, limit = -(-now.bytes >> 20), self._bytes >> 20
            return f"the workspace holds {held:,} MB, its limit is {limit:,} MB"
        if now.inodes > self._inodes and now.inodes > before.inodes:
            return f"the workspace holds {now.inodes:,} files, its limit is {self._inodes:,}"
        if not now.measured:
            return f"the workspace has directories more than {beneath.MAX_DEPTH} deep"
        return None
