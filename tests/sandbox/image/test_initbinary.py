"""The compiler behind PID 1: it makes a static program, says what is wrong, and reaches nothing."""

from __future__ import annotations

import asyncio
import os
import stat
import struct
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest

from sandbox import owner
from sandbox.address import EngineAddress
from sandbox.engine import Engine
from sandbox.errors import EngineFailed, SandboxRefused
from sandbox.image import initbinary
from sandbox.image.initbinary import TASK, compile_init, init_binary, location
from sandbox.lifecycle.reaper import reap

pytestmark = pytest.mark.docker
HELLO = b'#include "hello.h"\nint main(void) { return HELLO; }\n'


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    connected = await Engine.connect()
    yield connected
    await connected.close()


async def test_the_program_is_static_and_runs_without_anything(engine: Engine, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(await compile_init(engine, {"hello.c": HELLO, "hello.h": b"#define HELLO 42\n"}))
    program.chmod(0o700)
    process = await asyncio.create_subprocess_exec(program, env={})
    assert await process.wait() == 42
    assert PT_INTERP not in segment_types(program.read_bytes())


PT_INTERP = 3
"""The segment that names a dynamic loader."""


def segment_types(elf: bytes) -> list[int]:
    """Of a 64-bit little-endian program."""
    (start,) = struct.unpack_from("<Q", elf, 32)
    size, count = struct.unpack_from("<HH", elf, 54)
    return [struct.unpack_from("<I", elf, start + index * size)[0] for index in range(count)]


async def test_a_warning_is_an_error_and_is_said(engine: Engine) -> None:
    with pytest.raises(EngineFailed, match=r"compiling init failed .*unused.c:.*unused variable"):
        await compile_init(engine, {"unused.c": b"int main(void) { int spare; return 0; }\n"})


async def test_the_binary_is_made_once_and_its_place_follows_the_sources(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = {"main.c": b"int main(void) { return 0; }\n"}
    compiled = []

    async def counted(engine: Engine, sources: dict[str, bytes]) -> bytes:
        compiled.append(sources)
        return await compile_init(engine, sources)

    monkeypatch.setenv("USERMODE_HOME", str(tmp_path))
    monkeypatch.setattr(initbinary, "_sources", lambda: sources)
    monkeypatch.setattr(initbinary, "compile_init", counted)
    binary = await init_binary(engine)
    assert binary == location()
    assert binary.is_relative_to(tmp_path / "cache")
    assert await init_binary(engine) == binary
    assert len(compiled) == 1
    assert stat.S_IMODE(binary.stat().st_mode) == 0o555
    assert "localhost" in binary.with_name("hosts").read_text()
    assert {path.name for path in binary.parent.iterdir()} == {"init", "hosts"}
    sources["main.c"] += b"\n"
    assert location() != binary


async def test_an_engine_elsewhere_is_refused() -> None:
    class Elsewhere:
        address = EngineAddress("tcp", host="203.0.113.1", port=2376)
        is_local = False

    with pytest.raises(SandboxRefused, match="remote engines are not supported"):
        await init_binary(cast(Engine, Elsewhere()))


COMPILING = """
import asyncio
from sandbox import owner
from sandbox.image import initbinary
from sandbox.engine import Engine
initbinary.SCRIPT = "sleep 600"
async def main():
    await initbinary.compile_init(await Engine.connect(), {})
asyncio.run(main())
"""


async def test_what_a_killed_compilation_leaves_is_removed(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[3])}
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", COMPILING, env=environment)

    async def containers() -> int:
        found = await engine.containers({TASK: "init"})
        return sum(f":{child.pid}:" in one["Labels"].get(owner.OWNER, "") for one in found)

    async with asyncio.timeout(30):
        while not await containers():
            await asyncio.sleep(0.05)
    child.kill()
    await child.wait()
    assert len(list(tmp_path.iterdir())) == 1
    # Sessions that other tests have left on this engine are theirs.
    await reap(engine, tmp_path / "sessions", resumable=lambda state: True)
    assert (await containers(), list(tmp_path.iterdir())) == (0, [])
