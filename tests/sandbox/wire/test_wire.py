"""The wire on a real container: a host that dies in mid-frame, floods, and what nobody asked for."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from pathlib import Path

import pytest

from policies import load
from sandbox import Command, SandboxSpec, attach_sandbox, open_sandbox
from sandbox.container.box import DockerSandbox
from sandbox.container.calls import Call
from sandbox.engine import Engine
from sandbox.errors import SandboxError, SandboxGone
from sandbox.posture.facts import MOUNTS, NETWORK, STATUS, glanced, status
from sandbox.wire.attach import Attachment
from sandbox.wire.channel import Channel
from sandbox.wire.frames import Request, frame
from sandbox.wire.payloads import Spawn

pytestmark = pytest.mark.docker


async def detached(engine: Engine, state: Path) -> str:
    async with open_sandbox(SandboxSpec(load("strict"), state=state), engine=engine) as box:
        return await box.detach()


def touching(path: str, epoch: int) -> bytes:
    """A SPAWN that leaves a file if it is ever executed."""
    ask = Spawn((b"touch", path.encode()), b"/", (b"PATH=/usr/bin:/bin",), 4, 5000, 100, 100, 0)
    return ask.encode(epoch, 1 << 40)


async def test_half_a_frame_of_a_dead_host_is_never_executed(engine: Engine, tmp_path: Path) -> None:
    ref = await detached(engine, tmp_path)
    async with attach_sandbox(ref, engine=engine) as box:
        whole = touching("/tmp/executed", box.channel.epoch)
        ref = await box.detach()
    for cut in (1, 4, 8, 23, 24, 40, len(whole) - 5, len(whole) - 4, len(whole) - 1):
        dying = await Attachment.open(engine.address, ref)
        dying.write(whole[:cut])
        await asyncio.sleep(0.05)
        dying.close()
        async with attach_sandbox(ref, engine=engine) as box:
            assert (await box.run(Command(("echo", "next"), cwd="/"))).stdout == b"next\n"
            with pytest.raises(FileNotFoundError):
                await box.stat("/tmp/executed")
            ref = await box.detach()
    async with attach_sandbox(ref, engine=engine):
        pass


async def test_a_wire_that_is_gone_before_the_greeting_says_so_at_once(
    engine: Engine, tmp_path: Path
) -> None:
    """As when the engine refuses a start while its container's record is still being written."""
    ref = await detached(engine, tmp_path)
    channel = Channel(await Attachment.open(engine.address, ref))
    channel.close()
    async with asyncio.timeout(30):
        with pytest.raises(SandboxGone, match="let go"):
            await channel.greet(60, again=True, within_s=600)
    async with attach_sandbox(ref, engine=engine):
        pass


async def test_a_call_that_is_asked_for_again_by_several_is_answered_to_each(engine: Engine) -> None:
    """It was executed and taken: each is told so, also who asks while others are being told."""
    command = Command(("true",), cwd="/", call_id="0123456789abcdef")
    told = 0

    async def insist() -> None:
        nonlocal told
        for _ in range(5):
            with contextlib.suppress(SandboxError):
                await box.run(command)
            told += 1

    async with open_sandbox(SandboxSpec(load("strict")), engine=engine) as box, asyncio.timeout(60):
        await box.run(command)
        await asyncio.gather(insist(), insist(), insist())
    assert told == 15


async def test_garbage_on_the_wire_executes_nothing_and_does_not_end_init(
    engine: Engine, tmp_path: Path
) -> None:
    ref = await detached(engine, tmp_path)
    chaos = random.Random(7)
    for _ in range(5):
        stranger = await Attachment.open(engine.address, ref)
        stranger.write(chaos.randbytes(200_000))
        stranger.write(touching("/tmp/executed", 0) + touching("/tmp/executed", chaos.getrandbits(32)))
        await asyncio.sleep(0.05)
        stranger.close()
    async with attach_sandbox(ref, engine=engine) as box:
        assert (await box.list_dir("/tmp"))[0].path == "/tmp/.spill"


async def test_a_second_host_takes_the_wire_over_and_the_first_cannot_go_on(
    engine: Engine, tmp_path: Path
) -> None:
    async with (
        open_sandbox(SandboxSpec(load("strict"), state=tmp_path), engine=engine) as first,
        attach_sandbox(first.ref, engine=engine) as second,
    ):
        assert (await second.run(Command(("echo", "mine"), cwd="/"))).stdout == b"mine\n"
        with pytest.raises(SandboxGone):
            async with asyncio.timeout(30):
                await first.run(Command(("echo", "mine"), cwd="/"))
        assert (await second.run(Command(("echo", "still"), cwd="/"))).stdout == b"still\n"


async def test_a_flood_on_one_stream_holds_nobody_up(engine: Engine) -> None:
    async with (
        open_sandbox(SandboxSpec(load("strict")), engine=engine) as box,
        box.spawn(Command(("yes",), cwd="/")) as flood,
    ):
        chunks = flood.__aiter__()
        await anext(chunks)  # and then nobody reads
        for _ in range(50):
            assert (await box.run(Command(("echo", "through"), cwd="/"))).stdout == b"through\n"
        await box.write_file("/tmp/large", os.urandom(1 << 20))
        waiting = sum(len(chunk.data) for chunk in _waiting(box, flood.call_id))
        assert waiting <= 256 * 1024


def _waiting(box: DockerSandbox, call_id: str) -> list[object]:
    return list(box.calls[call_id]._chunks)  # what the host holds for a reader that has stopped


async def test_requests_for_calls_that_are_not_there_change_nothing(engine: Engine) -> None:
    async with open_sandbox(SandboxSpec(load("strict")), engine=engine) as box:
        for kind in (
            Request.STDIN,
            Request.SIGNAL,
            Request.KILL,
            Request.ACK,
            Request.CREDIT,
            Request.RESIZE,
        ):
            box.channel.send(kind, 0xDEAD_BEEF_0000_0001, bytes(8), flag=1, aux=9)
        box.channel.send_raw(frame(box.channel.epoch, Request.PEEK, 0xDEAD_BEEF_0000_0001, b"short"))
        assert (await box.run(Command(("echo", "on"), cwd="/"))).stdout == b"on\n"


async def test_init_says_at_a_glance_what_its_tables_say_one_by_one(engine: Engine) -> None:
    async with open_sandbox(SandboxSpec(load("strict")), engine=engine) as box:
        seen = glanced(await box.glance())
        assert list(seen) == [f"r {path}" for path in (STATUS, MOUNTS, NETWORK)]
        for path in (MOUNTS, NETWORK):
            assert seen[f"r {path}"].data == await box.read_file(path)
        assert status(seen[f"r {STATUS}"].text) == status((await box.read_file(STATUS)).decode())
        assert status(seen[f"r {STATUS}"].text)["Pid"] == ["1"]


async def test_the_guest_cannot_reach_the_wire(engine: Engine) -> None:
    script = (
        "for fd in /proc/1/fd/0 /proc/1/fd/1 /proc/1/fd/3; do echo forged > $fd; cat $fd; done;"
        "cat /proc/1/mem /proc/1/environ /proc/1/maps; ls -l /proc/1/fd; ls -l /proc/self/fd;"
        "ls -l /proc/$PPID/fd; echo x > /proc/$PPID/mem"
    )
    async with open_sandbox(SandboxSpec(load("strict")), engine=engine) as box:
        done = await box.run(Command(("sh", "-c", script), cwd="/"))
        assert b"forged" not in done.stdout
        listed = [line for line in done.stdout.decode().splitlines() if "->" in line]
        assert listed, "the shell's own descriptors are there to be seen"
        assert not [line for line in listed if "socket:" in line], "no descriptor of init or a supervisor"
        assert (await box.run(Command(("echo", "on"), cwd="/"))).stdout == b"on\n"


async def test_a_call_that_is_unknown_to_init_ends_with_an_error(engine: Engine) -> None:
    async with open_sandbox(SandboxSpec(load("strict")), engine=engine) as box:
        call = Call(box.channel, 0xABCD_0000_0000_0001)
        box.channel.listen(call.number, call)
        box.calls[call.call_id] = call
        with pytest.raises(KeyError):
            await box.progress(call.call_id)
