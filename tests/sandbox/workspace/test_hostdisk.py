"""The host's disk beneath a session: told of when it runs full, and only then."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from sandbox.errors import SandboxRefused
from sandbox.workspace import hostdisk
from sandbox.workspace.hostdisk import HostDisk, refuse_full, room


async def test_a_disk_that_runs_full_is_told_and_one_that_has_room_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = 1000
    monkeypatch.setattr(hostdisk, "_free", lambda path: free)
    monkeypatch.setattr(hostdisk, "RESERVE", 500)
    monkeypatch.setattr(hostdisk, "EVERY_S", 0.001)
    told: list[str] = []

    async def exceeded(reason: str) -> None:
        told.append(reason)

    async def looked() -> int:
        before = len(told)
        await asyncio.sleep(0.05)
        return len(told) - before

    async with HostDisk(tmp_path, exceeded):
        assert await looked() == 0
        free = 501
        assert await looked() == 0
        free = 400
        assert await looked() == 1
        # Nearly full, and nothing writes: what runs may go on.
        assert await looked() == 0
        free = 450
        assert await looked() == 0
        free = 449
        assert await looked() == 1


def test_what_does_not_fit_beside_the_spare_room_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = os.statvfs(tmp_path)
    fits = room(tmp_path)
    assert fits < found.f_bavail * found.f_frsize
    refuse_full(tmp_path, 0)
    with pytest.raises(SandboxRefused, match="nearly full"):
        refuse_full(tmp_path, fits + (1 << 40))
    with pytest.raises(SandboxRefused, match="nearly full"):
        refuse_full(tmp_path, 100, 100)
    monkeypatch.setattr(hostdisk, "RESERVE", 1 << 60)
    with pytest.raises(SandboxRefused, match="nearly full"):
        refuse_full(tmp_path, 0)
