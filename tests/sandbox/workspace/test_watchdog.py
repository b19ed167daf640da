"""The disk watchdog: says so when a limit is passed, and lets cleaning up go on."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from workspace_session import fill

from policies.schema import Limits
from sandbox.workspace import watchdog
from sandbox.workspace.watchdog import Watchdog, usage

LIMITS = Limits(workspace_mb=4, workspace_inodes=200)


class Said:
    """Collects what the watchdog says."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.came = asyncio.Event()

    async def __call__(self, reason: str) -> None:
        self.reasons.append(reason)
        self.came.set()

    async def next(self) -> str:
        async with asyncio.timeout(60):
            await self.came.wait()
        self.came.clear()
        return self.reasons[-1]


async def scans(dog: Watchdog, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Wait until the tree was summed up this many more times."""
    done = asyncio.Semaphore(0)
    real = usage

    def counted(path: Path, stop_after: int) -> watchdog.Usage:
        summed = real(path, stop_after)
        loop.call_soon_threadsafe(done.release)
        return summed

    loop = asyncio.get_running_loop()
    with monkeypatch.context() as patch:
        patch.setattr(watchdog, "usage", counted)
        async with asyncio.timeout(60):
            for _ in range(count):
                await done.acquire()


async def test_too_many_bytes_are_noticed(tmp_path: Path) -> None:
    said = Said()
    async with Watchdog(tmp_path, LIMITS, said) as dog:
        (tmp_path / "big").write_bytes(os.urandom(6 << 20))
        assert (await said.next()).endswith("its limit is 4 MB")
        assert dog.overshoot_bytes >= 2 << 20


async def test_too_many_files_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "_SCAN_AT_LEAST_EVERY_S", 0.1)
    said = Said()
    async with Watchdog(tmp_path, LIMITS, said):
        fill(tmp_path, {f"d{n % 7}/{n}": "" for n in range(300)})
        assert "files, its limit is 200" in await said.next()


async def test_nothing_is_said_below_the_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "_SCAN_AT_LEAST_EVERY_S", 0.0)
    said = Said()
    async with Watchdog(tmp_path, LIMITS, said) as dog:
        fill(tmp_path, {"a/b": "x" * 100_000})
        await scans(dog, monkeypatch, 3)
    assert said.reasons == []
    assert dog.overshoot_bytes == 0


async def test_past_the_limit_freeing_space_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "_SCAN_AT_LEAST_EVERY_S", 0.0)
    fill(tmp_path, {f"f{n}": os.urandom(1 << 20) for n in range(8)})
    said = Said()
    async with Watchdog(tmp_path, LIMITS, said) as dog:
        await scans(dog, monkeypatch, 3)
        (tmp_path / "f0").unlink()
        await scans(dog, monkeypatch, 3)
        assert said.reasons == []
        (tmp_path / "more").write_bytes(os.urandom(2 << 20))
        await said.next()


async def test_what_a_command_wrote_until_it_ended_is_not_laid_to_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "_SCAN_AT_LEAST_EVERY_S", 0.0)

    class Ending(Said):
        async def __call__(self, reason: str) -> None:
            with (tmp_path / "big").open("ab") as file:
                file.write(os.urandom(1 << 20))
            await super().__call__(reason)

    said = Ending()
    async with Watchdog(tmp_path, LIMITS, said) as dog:
        (tmp_path / "big").write_bytes(os.urandom(6 << 20))
        await said.next()
        await scans(dog, monkeypatch, 4)
        assert len(said.reasons) == 1
        (tmp_path / "more").write_bytes(os.urandom(1 << 20))
        await said.next()


async def test_what_was_deleted_does_not_hide_what_is_written_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "_SCAN_AT_LEAST_EVERY_S", 1e9)

    def free(path: Path) -> SimpleNamespace:  # of a disk that nobody else writes to
        held = usage(tmp_path, 10_000)
        blocks = (1 << 30) - held.bytes // 512
        return SimpleNamespace(f_bfree=blocks, f_bavail=blocks, f_frsize=512, f_ffree=10**6 - held.inodes)

    monkeypatch.setattr(os, "statvfs", free)
    said = Said()
    async with asyncio.timeout(60), Watchdog(tmp_path, LIMITS, said):
        (tmp_path / "big").write_bytes(os.urandom(20 << 20))
        await said.next()
        (tmp_path / "big").unlink()
        await asyncio.sleep(0.3)  # seen to be free
        (tmp_path / "again").write_bytes(os.urandom(6 << 20))
        await said.next()


async def test_data_hidden_in_deep_directories_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "_SCAN_AT_LEAST_EVERY_S", 0.0)
    said = Said()
    async with Watchdog(tmp_path, LIMITS, said):
        tmp_path.joinpath(*["d"] * 140).mkdir(parents=True)
        assert "deep" in await said.next()


async def test_a_full_host_disk_counts_as_past_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "_HOST_RESERVE", 1 << 60)
    said = Said()
    async with Watchdog(tmp_path, Limits(), said):
        with (tmp_path / "held").open("wb") as file:  # on no list, and still on the disk
            (tmp_path / "held").unlink()
            told = asyncio.create_task(said.next())
            for _ in range(40):  # somebody else may free as much meanwhile
                file.write(os.urandom(4 << 20))
                file.flush()
                os.fsync(file.fileno())
                await asyncio.wait({told}, timeout=0.2)
                if told.done():
                    break
            assert await told == "the host's disk is nearly full"


async def test_a_workspace_that_cannot_be_watched_counts_as_past_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "_SCAN_AT_LEAST_EVERY_S", 0.0)
    (tmp_path / "w").mkdir()
    said = Said()

    async with Watchdog(tmp_path / "w", LIMITS, said):
        (tmp_path / "w").rename(tmp_path / "gone")
        assert "cannot be watched" in await said.next()


def test_a_hole_costs_nothing_and_counting_stops(tmp_path: Path) -> None:
    (tmp_path / "sparse").write_bytes(b"")
    os.truncate(tmp_path / "sparse", 1 << 40)
    fill(tmp_path, {f"f{n}": "" for n in range(50)})
    assert usage(tmp_path, 1000).bytes < 1 << 20
    assert usage(tmp_path, 1000).inodes == 51
    assert usage(tmp_path, 10).inodes == 10
