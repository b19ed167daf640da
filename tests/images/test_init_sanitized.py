"""init under AddressSanitizer and UBSan: the whole contract, and hostile bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from sanitized import DEV, PARTS, build_fuzzer, compiled, put_sources

from sandbox import Command, Sandbox, lifecycle, open_sandbox
from sandbox.conformance import CHECKS, Check
from sandbox.engine import Engine

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]
AT_ONCE = 4


@pytest.fixture
async def dev() -> AsyncIterator[Sandbox]:
    async with open_sandbox(DEV) as box:
        yield box


async def sanitized_init(box: Sandbox, directory: Path) -> Path:
    await put_sources(box)
    await compiled(box, "-o /tmp/init *.c")
    program = await box.read_file("/tmp/init")
    assert b"__asan_report_load" in program
    (directory / "hosts").write_text("127.0.0.1\tlocalhost\n")
    (directory / "init").write_bytes(program)
    (directory / "init").chmod(0o555)
    directory.chmod(0o755)
    return directory / "init"


async def test_the_whole_contract_is_kept_without_a_report(
    dev: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A report ends init, so a sandbox that answers to the end has seen none."""
    program = await sanitized_init(dev, tmp_path)

    async def built(engine: Engine) -> Path:
        return program

    monkeypatch.setattr(lifecycle, "init_binary", built)
    engine = await Engine.connect()
    # One sandbox for all that leave it standing: its tables fill, and nothing may leak between them. A check
    # that wants a sandbox nobody has used gets one.
    alone = [one for one in CHECKS if one.id.startswith("box.")]
    places = asyncio.Semaphore(AT_ONCE)
    async with open_sandbox(DEV, engine=engine) as box:

        async def shared(one: Check) -> None:
            async with places:
                if await complaint(one, box):
                    alone.append(one)

        await asyncio.gather(*(shared(one) for one in CHECKS if one not in alone))
        assert (await box.run(Command(("echo", "still there"), cwd="/"))).stdout == b"still there\n"
        for job in await box.jobs():
            await box.kill(job)
        async with asyncio.timeout(20):
            while await box.jobs():
                await asyncio.sleep(0.1)
    broken = []
    for one in alone:
        async with open_sandbox(DEV, engine=engine) as box:
            broken += await complaint(one, box)
    await engine.close()
    assert broken == []
    assert len(alone) < len(CHECKS) / 4


async def test_root_commands_are_kept_without_a_report(
    dev: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A report ends their keeper, and then the sandbox."""
    program = await sanitized_init(dev, tmp_path)

    async def built(engine: Engine) -> Path:
        return program

    monkeypatch.setattr(lifecycle, "init_binary", built)
    container = DEV.policy.container.model_copy(update={"capabilities": ("CHOWN",)})
    for policy in (DEV.policy, DEV.policy.model_copy(update={"container": container})):
        async with open_sandbox(replace(DEV, policy=policy)) as box:
            for text, code in (("cat; exit 3", 3), ("setsid sleep 300 & kill -9 $$", 137), ("nope", 127)):
                done = await box.run(Command(("sh", "-c", text), user="root", stdin=b"x" * 60_000))
                assert done.exit_code == code
            flood = Command(("sh", "-c", "yes & yes >&2"), user="root", timeout_s=2, output_bytes=1000)
            assert (await box.run(flood)).timed_out
            with pytest.raises(FileNotFoundError):
                await box.run(Command(("true",), user="root", cwd="/nowhere"))
            assert (await box.run(Command(("echo", "still there")))).stdout == b"still there\n"


async def complaint(one: Check, box: Sandbox) -> list[str]:
    try:
        await one.run(box)
    except AssertionError as error:
        return [f"{one.id}: {error}"]
    return []


async def test_hostile_bytes_find_no_fault(dev: Sandbox) -> None:
    await build_fuzzer(dev)
    done = await dev.run(Command(("/tmp/fuzz", "5", "7"), cwd="/"))
    assert done.exit_code == 0, done.stderr.decode()
    assert b"no fault" in done.stdout


async def test_the_fuzzer_finds_a_fault_that_is_there(dev: Sandbox) -> None:
    await put_sources(dev)
    source = await dev.read_file("/tmp/src/spawn.c")
    check = (
        b"if (f.input_length > (size_t)(end - at) || f.input_length > STDIN_WINDOW || f.zero) return false;"
    )
    assert check in source
    await dev.write_file("/tmp/src/spawn.c", source.replace(check, b"if (f.zero) return false;"))
    await compiled(dev, f"-I. -o /tmp/fuzz fuzz/fuzz.c {PARTS}")
    done = await dev.run(Command(("/tmp/fuzz", "20", "7"), cwd="/"))
    assert done.exit_code == 99
    assert b"AddressSanitizer" in done.stderr
