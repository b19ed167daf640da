"""Any image with a Linux userland will do: one with only busybox, one with only a static program."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from images_of import DIRECTORY, image_of
from together import complaints

from policies import load
from sandbox import Command, Sandbox, SandboxSpec, open_sandbox
from sandbox.conformance import CHECKS

pytestmark = pytest.mark.docker


@asynccontextmanager
async def opened(image: str) -> AsyncIterator[Sandbox]:
    async with open_sandbox(SandboxSpec(policy=load("strict"), image=image)) as box:
        yield box


@pytest.mark.timeout(600)
async def test_busybox_alone_keeps_the_whole_contract(busybox_files, tmp_path: Path) -> None:
    files = {**busybox_files, "/etc/passwd": b"root:x:0:0::/:/bin/sh\n"}
    async with image_of(files, tmp_path) as image:
        assert await complaints(lambda: opened(image), CHECKS, at_once=8) == []


async def test_the_modes_of_the_images_own_directories_do_not_come_through(
    busybox_files, tmp_path: Path
) -> None:
    """The runtime gives a fresh tmpfs the mode of what it covers."""
    covered = ("/tmp", "/workspace", "/home/sandbox", "/dev/shm")
    files = {**busybox_files, **dict.fromkeys(covered, DIRECTORY)}
    async with image_of(files, tmp_path) as image, opened(image) as box:
        for directory in covered:
            text = f"echo kept > {directory}/file && cat {directory}/file"
            done = await box.run(Command(("sh", "-c", text)))
            assert (done.stdout, done.stderr) == (b"kept\n", b"")
        done = await box.run(Command(("sh", "-c", "yes | head -c 100000"), output_bytes=100))
        assert len(await box.read_file(done.spill["stdout"])) == 100_000


async def test_a_static_program_alone_runs(static_files, tmp_path: Path) -> None:
    async with image_of(static_files, tmp_path) as image, opened(image) as box:
        done = await box.run(Command(("/program", "a b", ""), env={"GIVEN": "seen"}))
        assert (done.exit_code, done.stdout, done.stderr) == (42, b"[a b][]", b"seen")
        done = await box.run(Command(("/program", "copy"), stdin=bytes(range(256)) * 1000, output_bytes=100))
        assert (done.exit_code, done.stdout_total) == (0, 256_000)
        assert await box.read_file(done.spill["stdout"]) == bytes(range(256)) * 1000
        done = await box.run(Command(("/program", "wait"), timeout_s=0.5))
        assert (done.timed_out, done.signal) == (True, 15)
        assert (await box.run(Command(("sh", "-c", "true")))).exit_code == 127


async def test_files_need_nothing_of_the_image(static_files, tmp_path: Path) -> None:
    async with image_of(static_files, tmp_path) as image, opened(image) as box:
        for directory in ("/workspace", "/tmp", "/home/sandbox"):
            await box.write_file(f"{directory}/deep/file", b"content", parents=True)
            assert await box.read_file(f"{directory}/deep/file") == b"content"
            assert [entry.path for entry in await box.list_dir(f"{directory}/deep")] == [
                f"{directory}/deep/file"
            ]
        with pytest.raises(OSError, match="Read-only"):
            await box.write_file("/elsewhere", b"")
