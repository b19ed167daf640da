"""Attacks by using everything up (B). Each runs in a sandbox of its own with small limits.

A container without limits is not bombed: nothing would protect the machine. That there is no limit is
measured instead, and that is the effect.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import time
from collections.abc import Sequence

from sandbox.attack.case import Case, NotApplicable, Program, Target
from sandbox.container.box import DockerSandbox
from sandbox.errors import Busy, SandboxGone
from sandbox.protocol import Command

CALM_S = 30.0
OWN_INIT = "the suite starts programs with its own init in both, so this would not be the engine's doing"

NO_LIMITS = """
def told(*paths):
    for path in paths:
        try:
            return open("/sys/fs/cgroup/" + path).read().split()[0]
        except OSError:
            pass
    return "max"
def unbounded(text):
    return text in ("max", "-1") or int(text) > 1 << 40
"""
NO_PIDS = Program(
    NO_LIMITS + 'if unbounded(told("pids.max", "pids/pids.max")): done.append("processes without limit")'
)
NO_MEMORY = Program(
    NO_LIMITS
    + """
if unbounded(told("memory.max", "memory/memory.limit_in_bytes")):
    done.append("memory without limit")
"""
)
NO_CPU = Program(
    NO_LIMITS
    + 'if unbounded(told("cpu.max", "cpu/cpu.cfs_quota_us")): done.append("processors without limit")'
)
HOST_DISK = Program(
    """
for path in ("/", "/tmp", "/var/tmp"):
    place = os.statvfs(path)
    mounts = [line for line in open("/proc/self/mountinfo") if line.split()[4] == path]
    memory = mounts and mounts[-1].split(" - ")[1].startswith("tmpfs ")
    if os.access(path, os.W_OK) and not memory and not place.f_flag & 1:
        done.append(f"{path} writes to the host's disk: {place.f_bavail * place.f_frsize >> 30} GB, "
                    f"{place.f_favail} files")
        break
"""
)


async def calm(box: DockerSandbox) -> bool:
    """Whether it still does what it is told."""
    done = await box.run(Command(("echo", "hello"), cwd="/", timeout_s=CALM_S))
    return done.stdout == b"hello\n"


def ours(target: Target) -> None:
    if target.kind != "usermode":
        raise NotApplicable(OWN_INIT)


async def fork_bomb(target: Target) -> Sequence[str]:
    if target.kind == "docker":
        return await NO_PIDS(target)
    bomb = "import os\nwhile True:\n try: os.fork()\n except OSError: pass"
    async with target.fresh(pids=64) as box:
        call = await box.start(Command(("python3", "-c", bomb), cwd="/", timeout_s=2))
        await asyncio.sleep(0.5)
        if not await calm(target.box):
            return ["another session stopped answering"]
        try:
            done = await box.result(call)
        except SandboxGone:
            return [] if await calm(target.box) else ["another session stopped answering"]
        if done.exit_code == 127:
            raise NotApplicable("the image has no python3 to try it with")
        return await _recovered(box)


async def _recovered(box: DockerSandbox) -> list[str]:
    try:
        async with asyncio.timeout(CALM_S):
            while await box.jobs():  # noqa: ASYNC110 - nothing tells that the last one has gone
                await asyncio.sleep(0.05)
            return [] if await calm(box) else ["it does not answer any more"]
    except TimeoutError:
        return [f"processes live on after {CALM_S:g} s"]
    except SandboxGone:
        return []  # ended as a whole, and said so
    except Busy as error:
        return [f"it is of no use any more: {error}"]


async def memory_bomb(target: Target) -> Sequence[str]:
    if target.kind == "docker":
        return await NO_MEMORY(target)
    async with target.fresh(memory_mb=256) as box:
        bomb = "b = b'x' * (1 << 30); print(len(b), flush=True)"
        try:
            done = await box.run(Command(("python3", "-c", bomb), cwd="/", timeout_s=CALM_S))
        except SandboxGone:
            return []  # ended as a whole, and said so
        if done.exit_code == 127:
            raise NotApplicable("the image has no python3 to try it with")
        return ["four times the limit was had"] if done.stdout else []


FILL = """
for place in sys.argv[1:]:
    written = 0
    try:
        with open(place + "/fill", "wb", buffering=0) as file:
            while written < 64 << 20:
                written += file.write(bytes(1 << 20))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            done.append(f"{place}: {error}")
    if written > 17 << 20:
        done.append(f"{place} took {written >> 20} MB of 16")
    os.unlink(place + "/fill")
"""
FILES = """
for place in sys.argv[1:]:
    made = []
    try:
        for number in range(3000):
            path = f"{place}/f{number}"
            open(path, "w").close()
            made.append(path)
    except OSError:
        pass
    if len(made) > 1000:
        done.append(f"{place} took {len(made)} files of 1000")
    for path in made:
        os.unlink(path)
"""


async def disk_fill(target: Target) -> Sequence[str]:
    if target.kind == "docker":
        return await HOST_DISK(target)
    async with target.fresh(tmp_mb=16, shm_mb=16, workspace_mb=16) as box:
        places = ("/tmp", "/home/sandbox", "/dev/shm", "/workspace")
        return await Program(FILL, places).within(box)


async def inode_fill(target: Target) -> Sequence[str]:
    if target.kind == "docker":
        return await HOST_DISK(target)
    if target.runtime == "runsc":
        raise NotApplicable("gVisor counts no files; each is memory of the sandbox, whose limit holds (B02)")
    async with target.fresh(tmp_inodes=1000, workspace_inodes=1000) as box:
        places = ("/tmp", "/home/sandbox", "/dev/shm", "/workspace")
        return await Program(FILES, places).within(box)


async def spin(target: Target) -> Sequence[str]:
    if target.kind == "docker":
        return await NO_CPU(target)
    text = (
        "import os, time\n[os.fork() for _ in range(3)]\nend = time.monotonic() + 2\n"
        "while time.monotonic() < end: pass"
    )
    async with target.fresh(cpus=0.25) as box:
        started = time.monotonic()
        done = await box.run(Command(("python3", "-c", text), cwd="/", timeout_s=CALM_S))
        if done.exit_code == 127:
            raise NotApplicable("the image has no python3 to try it with")
        used = done.rusage.user_s + done.rusage.system_s
        passed = max(time.monotonic() - started, done.duration_s)
        return [f"{used / passed:.2f} processors of 0.25"] if used > 0.6 * passed else []


async def flood(target: Target) -> Sequence[str]:
    ours(target)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    command = Command(
        ("sh", "-c", "head -c 200000000 /dev/zero"), cwd="/", output_bytes=50_000, timeout_s=CALM_S
    )
    done = await target.box.run(command)
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
    achieved = [f"the harness grew by {grown_mb} MB"] if grown_mb > 64 else []
    if len(done.stdout) > 50_000 or not done.truncated:
        achieved.append(f"{len(done.stdout)} bytes were kept")
    return achieved


async def stubborn(target: Target) -> Sequence[str]:
    ours(target)
    text = (
        "trap '' TERM HUP INT; (setsid sh -c 'trap \"\" TERM; while :; do sleep 1; done' &); "
        "while :; do sleep 1; done"
    )
    async with target.fresh(grace_s=0.5) as box:
        done = await box.run(Command(("sh", "-c", text), cwd="/", timeout_s=0.5))
        return [] if done.timed_out and not await box.jobs() else ["it outlived its time"]


async def held_open(target: Target) -> Sequence[str]:
    ours(target)
    async with target.fresh() as box:
        done = await box.run(Command(("sh", "-c", "sleep 1000 & echo hi"), cwd="/", timeout_s=CALM_S))
        return ["the call waited for its background child"] if done.timed_out else []


async def zombies(target: Target) -> Sequence[str]:
    ours(target)
    text = (
        "import os\nfor _ in range(1000):\n pid = os.fork()\n if pid == 0:\n"
        "  if os.fork() == 0: os._exit(0)\n"
        "  os._exit(0)\n os.waitpid(pid, 0)\n"
    )
    async with target.fresh() as box:
        done = await box.run(Command(("python3", "-c", text), cwd="/", timeout_s=CALM_S))
        if done.exit_code == 127:
            raise NotApplicable("the image has no python3 to try it with")
        if lost := await _recovered(box):
            return lost
        told = await box.run(Command(("sh", "-c", "cat /proc/[0-9]*/stat | grep -c ' Z '"), cwd="/"))
        return [f"{told.stdout.decode().strip()} zombies"] if told.stdout.strip() != b"0" else []


async def kill_all(target: Target) -> Sequence[str]:
    ours(target)
    async with target.fresh() as box:
        with contextlib.suppress(SandboxGone):  # ended as a whole, and said so
            await box.run(Command(("sh", "-c", "kill -9 -1; sleep 5"), cwd="/", timeout_s=3))
            return await _recovered(box)
    return []


async def endless_files(target: Target) -> Sequence[str]:
    ours(target)
    await target.box.run(Command(("sh", "-c", "mkfifo /tmp/fifo; truncate -s 10T /tmp/sparse"), cwd="/"))
    taken = []
    for path in ("/tmp/fifo", "/dev/zero", "/tmp/sparse", "/proc/kmsg", "/tmp"):
        try:
            async with asyncio.timeout(5):
                taken.append(f"{len(await target.box.read_file(path))} bytes of {path}")
        except TimeoutError:
            taken.append(f"reading {path} does not end")
        except (OSError, ValueError):
            continue
    return taken


async def quotas(target: Target) -> Sequence[str]:
    if target.kind == "docker":
        return await Program(
            "if resource.getrlimit(resource.RLIMIT_NOFILE)[1] > 1 << 20:\n"
            "    done.append('open files without limit')"
        )(target)
    async with target.fresh(open_files=1024) as box:
        return await Program(
            """
held = []
try:
    while len(held) < 2000:
        held.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
for file in held[8:]:
    os.close(file)
if len(held) > 1024:
    done.append(f"{len(held)} files were opened of 1024")
try:
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
    done.append("the limit of open files was raised")
except (OSError, ValueError):
    pass
"""
        ).within(box)


CASES = (
    Case("B01", "a fork bomb", fork_bomb),
    Case("B02", "a memory bomb", memory_bomb),
    Case("B03", "filling disks", disk_fill),
    Case("B04", "filling file systems with files", inode_fill),
    Case("B05", "busy loops", spin),
    Case("B06", "endless output", flood),
    Case("B08", "a tree that ignores being told to end", stubborn),
    Case("B09", "a daemon that holds the output open", held_open),
    Case("B10", "zombies", zombies),
    Case("B11", "killing everything", kill_all),
    Case("B13", "reading what never ends", endless_files),
    Case("B17", "descriptors", quotas),
)
