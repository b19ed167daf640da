"""Images made to break out: nothing they configure or plant is obeyed or executed (attacks A43, A44, C05)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest
from images_of import Content, image_of

from policies import load
from sandbox import Command, Sandbox, SandboxSpec, open_sandbox
from sandbox.errors import SandboxError, SandboxRefused

pytestmark = pytest.mark.docker

CANARY = b"#!/bin/sh\necho planted >> /workspace/canary\necho planted >> /tmp/canary\n"


@asynccontextmanager
async def opened(
    files: Mapping[str, Content], where: Path, changes: tuple[str, ...] = ()
) -> AsyncIterator[Sandbox]:
    async with AsyncExitStack() as stack:
        image = await stack.enter_async_context(image_of(files, where, changes))
        spec = SandboxSpec(policy=load("strict"), image=image)
        yield await stack.enter_async_context(open_sandbox(spec))


async def planted_in(box: Sandbox) -> list[str]:
    """Traces of a planted program that ran."""
    places = [*await box.list_dir("/tmp"), *await box.list_dir("/workspace")]
    return [entry.path for entry in places if entry.path.endswith("canary")]


async def test_nothing_the_image_configures_is_obeyed(busybox_files, tmp_path: Path):
    changes = (
        "ENV LD_PRELOAD=/evil.so",
        "ENV BASH_ENV=/evil.sh",
        "ENV ENV=/evil.sh",
        'ENTRYPOINT ["/evil"]',
        'CMD ["/evil"]',
        "USER root",
        "WORKDIR /root",
        "HEALTHCHECK --interval=1s CMD /evil",
        "ONBUILD RUN /evil",
        "EXPOSE 80",
    )
    files = {**busybox_files, "/evil": CANARY, "/evil.sh": CANARY, "/evil.so": b"not a library"}
    async with opened(files, tmp_path, changes) as box:
        done = await box.run(Command(("sh", "-c", "id -u; pwd; env; sleep 2")))
        uid, cwd, *environment = done.stdout.decode().splitlines()
        assert uid != "0"
        assert cwd == "/workspace"
        assert not [
            entry for entry in environment if entry.split("=")[0] in ("LD_PRELOAD", "BASH_ENV", "ENV")
        ]
        assert [entry.path for entry in await box.list_dir("/workspace")] == []
        assert await planted_in(box) == []


async def test_an_unlimited_volume_is_refused(busybox_files, tmp_path: Path):
    async with image_of(busybox_files, tmp_path, ("VOLUME /data",)) as image:
        with pytest.raises(SandboxRefused, match="/data"):
            async with open_sandbox(SandboxSpec(policy=load("strict"), image=image)):
                pass


async def test_planted_tools_are_never_run_by_transfers(busybox_files, tmp_path: Path):
    """What moves files is init; no program of the image takes part, whatever its name."""
    planted = (
        "cat",
        "tar",
        "xz",
        "unpigz",
        "gzip",
        "cp",
        "mv",
        "timeout",
        "stat",
        "ls",
        "bash",
        "mkdir",
        "test",
        "base64",
    )
    files = {**busybox_files, **{f"/bin/{name}": CANARY for name in planted}}
    files |= {f"/usr/bin/{name}": CANARY for name in planted}
    files |= {"/lib/x86_64-linux-gnu/libnss_files.so.2": CANARY, "/etc/ld.so.preload": b"/evil.so\n"}
    async with opened(files, tmp_path) as box:
        await box.write_file("/workspace/deep/file", bytes(3 << 20), parents=True)
        assert await box.read_file("/workspace/deep/file") == bytes(3 << 20)
        await box.stat("/workspace/deep")
        done = await box.run(Command(("sleep", "60"), timeout_s=0.5))
        assert done.timed_out
        assert [entry.path for entry in await box.list_dir("/workspace")] == ["/workspace/deep"]
        assert await planted_in(box) == []
        # The plant does grow, when it is watered.
        await box.run(Command(("cat",)))
        assert len(await planted_in(box)) == 2


async def test_masked_files_stay_masked_when_the_images_null_device_is_a_link(busybox_files, tmp_path: Path):
    core_pattern = Path("/proc/sys/kernel/core_pattern")
    before = core_pattern.read_text()
    files = {
        **busybox_files,
        "/dev/null": "/proc/sys/kernel/core_pattern",
        "/dev/console": "/proc/sysrq-trigger",
    }
    async with opened(files, tmp_path) as box:
        await box.run(
            Command(
                ("sh", "-c", "for f in /proc/keys /proc/timer_list /proc/kcore; do echo '|/x' > $f; done")
            )
        )
        assert (await box.run(Command(("sh", "-c", "cat /proc/keys | wc -c")))).stdout.strip() == b"0"
        assert (await box.stat("/dev/null")).kind == "device"
    assert core_pattern.read_text() == before


@pytest.mark.parametrize("target", ["/workspace", "/tmp", "/home/sandbox", "/.usermode"])
async def test_mount_points_that_are_links_lead_nowhere(busybox_files, tmp_path: Path, target: str):
    """Refused, or mounted inside the container; never on the host, never over /proc."""
    canary = tmp_path / "canary"
    canary.mkdir(mode=0o777)
    for leads_to in (str(canary), "../" * 10 + str(canary)[1:], "/proc", "/etc"):
        with suppress(SandboxError):
            async with opened({**busybox_files, target: leads_to}, tmp_path) as box:
                text = f"echo x > {target}/planted; echo x > {canary}/planted"
                await box.run(Command(("sh", "-c", text), cwd="/"))
                status = await box.run(Command(("cat", "/proc/self/status"), cwd="/"))
                assert b"CapEff:\t0000000000000000" in status.stdout
        assert list(canary.iterdir()) == []
