"""init under AddressSanitizer and UBSan: the whole contract, and hostile bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
from sanitized import DEV, FLAGS, built, compile_all, link_fuzzer, link_init
from together import complaints

from sandbox import Command, Sandbox, open_sandbox
from sandbox.conformance import CHECKS
from sandbox.engine import Engine
from sandbox.lifecycle import prepared

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600), pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def dev() -> AsyncIterator[Sandbox]:
    """Where everything is compiled, once for all of these tests."""
    async with open_sandbox(DEV) as box:
        await compile_all(box)
        yield box


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def program(dev: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sanitized init."""
    directory = tmp_path_factory.mktemp("init")
    built_init = await link_init(dev)
    assert b"__asan_report_load" in built_init
    (directory / "hosts").write_text("127.0.0.1\tlocalhost\n")
    (directory / "init").write_bytes(built_init)
    (directory / "init").chmod(0o555)
    directory.chmod(0o755)
    return directory / "init"


@pytest.fixture
def sanitized(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every sandbox that is opened runs it."""

    async def ours(engine: Engine) -> Path:
        return program

    monkeypatch.setattr(prepared, "init_binary", ours)


@pytest.mark.usefixtures("sanitized")
async def test_the_whole_contract_is_kept_without_a_report() -> None:
    """A report ends init, so a sandbox that answers to the end has seen none."""
    engine = await Engine.connect()

    @asynccontextmanager
    async def opened() -> AsyncIterator[Sandbox]:
        async with open_sandbox(DEV, engine=engine) as box:
            yield box

    broken = await complaints(opened, CHECKS, at_once=4)
    await engine.close()
    assert broken == []


@pytest.mark.usefixtures("sanitized")
async def test_root_commands_are_kept_without_a_report() -> None:
    """A report ends their keeper, and then the sandbox."""
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


async def test_hostile_bytes_find_no_fault(dev: Sandbox) -> None:
    await link_fuzzer(dev)
    done = await dev.run(Command(("/tmp/fuzz", "5", "7"), cwd="/"))
    assert done.exit_code == 0, done.stderr.decode()
    assert b"no fault" in done.stdout


async def test_the_fuzzer_finds_a_fault_that_is_there(dev: Sandbox) -> None:
    source = await dev.read_file("/tmp/src/command.c")
    check = (
        b"if (f.input_length > (size_t)(end - at) || f.input_length > STDIN_WINDOW || f.zero) return false;"
    )
    assert check in source
    await dev.write_file("/tmp/src/faulty.c", source.replace(check, b"if (f.zero) return false;"))
    await built(dev, f"gcc {FLAGS} -I. -c -o command.o faulty.c")
    await link_fuzzer(dev)
    done = await dev.run(Command(("/tmp/fuzz", "20", "7"), cwd="/"))
    assert done.exit_code == 99
    assert b"AddressSanitizer" in done.stderr
