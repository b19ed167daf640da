"""The host's disk beneath a session's storage: an image is sparse, what is stored in it may not fit.

The guest's file system cannot know. Its writes succeed, and are lost later, on their way to the disk, where
nobody sees it. So a session starts only where its copy fits, and what runs is ended while there is still room
for all that it has written.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from sandbox.errors import SandboxRefused
from sandbox.workspace.watchdog import Exceeded

RESERVE = 256 << 20
"""Bytes that stay free: more than is on its way to the disk between two looks."""
EVERY_S = 0.1


def room(path: Path) -> int:
    """Bytes that sessions may still fill."""
    return max(0, _free(path) - RESERVE)


def refuse_full(path: Path, size: int, had: int | None = None) -> None:
    """SandboxRefused unless more than `size` bytes fit, or did when `had` was measured."""
    fits = room(path) if had is None else had
    if fits <= size:
        raise SandboxRefused(
            f"the disk of {path.parent} is nearly full: {size >> 20:,} MB of workspace do not fit beside "
            f"{RESERVE >> 20} MB to spare; free some space, or set USERMODE_HOME"
        )


class HostDisk:
    """`async with HostDisk(path, exceeded):` tells, as long as the block lasts, of a disk that runs full."""

    def __init__(self, path: Path, exceeded: Exceeded) -> None:
        self._path = path
        self._exceeded = exceeded
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> HostDisk:
        self._task = asyncio.create_task(self._watch(), name="host disk")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        before = _free(self._path)
        while True:
            await asyncio.sleep(EVERY_S)
            now = _free(self._path)
            if now < min(before, RESERVE):
                await self._exceeded("the host's disk is nearly full")
            before = now


def _free(path: Path) -> int:
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize
