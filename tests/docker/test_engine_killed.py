"""kill -9 of the engine in the middle of a command: said in a line, gone on with when there is one again."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from pathlib import Path

import docker
import pytest
from images_of import archive
from second_engine import SecondEngine, second_engine

from harness.events import TakenUp
from harness.journal.reading import read, verify
from harness.store import Store
from sandbox.cache import cache_dir
from sandbox.owner import SESSION

pytestmark = pytest.mark.docker
IMAGE = "usermode-test/engine:latest"


def load_image(engine: SecondEngine, files: dict[str, object], where: Path) -> None:
    (where / "image.tar").write_bytes(archive(files))
    client = docker.DockerClient(base_url=engine.address)
    try:
        client.api.import_image(src=str(where / "image.tar"), repository=IMAGE.split(":")[0], tag="latest")
    finally:
        client.close()


def containers(engine: SecondEngine, session: str) -> list[str]:
    client = docker.DockerClient(base_url=engine.address)
    try:
        found = client.api.containers(all=True, filters={"label": f"{SESSION}={session}"})
        return [container["Status"] for container in found]
    finally:
        client.close()


async def begun(engine: SecondEngine, home: Path, *argv: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "harness", *argv,
        env={
            **os.environ, "DOCKER_HOST": engine.address, "USERMODE_HOME": str(home),
            "PYTHONPATH": str(Path(__file__).parents[2]),
        },
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


@pytest.mark.timeout(300)
@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("dockerd") is None, reason="a second engine needs root, and dockerd"
)
@pytest.mark.parametrize("harness_too", [False, True])
async def test_a_killed_engine_is_told_and_nothing_happens_twice(
    busybox_files: dict[str, object], tmp_path: Path, harness_too: bool
) -> None:
    home, workspace, script = tmp_path / "home", tmp_path / "workspace", tmp_path / "script.jsonl"
    home.mkdir(mode=0o700)
    (home / "cache").symlink_to(cache_dir())
    workspace.mkdir()
    texts = ("echo x >> ran; sleep 30; echo finished", "cat ran")
    replies = [{"calls": [{"name": "bash", "arguments": {"command": text}}]} for text in texts]
    script.write_text("".join(json.dumps(reply) + "\n" for reply in [*replies, {"text": "done"}]))
    async with second_engine() as engine:
        await asyncio.to_thread(load_image, engine, busybox_files, tmp_path)
        run = await begun(
            engine, home, "run", "go", "--json", "--image", IMAGE, "-w", str(workspace),
            "-m", f"scripted:{script}",
        )  # fmt: skip
        assert run.stdout is not None
        async with asyncio.timeout(60):
            while b'"kind":"call_intent"' not in (line := await run.stdout.readline()):
                assert line, "the session ended before that"
        (row,) = Store(home).list()
        await asyncio.sleep(1)
        if harness_too:
            run.kill()
        await engine.kill()
        out, said = await run.communicate()
        if not harness_too:
            last = json.loads(out.splitlines()[-1])
            assert (run.returncode, last["kind"], last["status"], said) == (
                6,
                "session_ended",
                "sandbox",
                b"",
            )
        assert verify(row.directory).ok

        await engine.start()
        resumed = await begun(engine, home, "resume", row.id, "--json")
        out, said = await resumed.communicate()
        assert resumed.returncode == 0, (out, said)
        entries = [record.entry for record in read(row.directory)]
        (taken_up,) = [entry for entry in entries if isinstance(entry, TakenUp)]
        if harness_too:
            assert (taken_up.sandbox, [call.fate for call in taken_up.calls]) == ("reopened", ["unknown"])
        applied = await begun(engine, home, "apply", row.id)
        assert await applied.wait() == 0
        # Counted by the guest itself.
        assert (workspace / "ran").read_text() == "x\n"
        assert verify(row.directory).ok
        assert await (await begun(engine, home, "gc")).wait() == 0
        async with asyncio.timeout(60):
            # An engine that was killed may be at it still.
            while left := await asyncio.to_thread(containers, engine, row.id):
                assert left == ["Removal In Progress"]
                await asyncio.sleep(0.1)
