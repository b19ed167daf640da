"""What a session may use up: processes, memory, disk, inodes, output, patience (attacks B)."""

from __future__ import annotations

import asyncio
import errno
import resource
import signal
from pathlib import Path

import pytest

from sandbox import Command, Sandbox
from sandbox.errors import Busy, SandboxGone

pytestmark = pytest.mark.docker

CGROUPS = Path("/sys/fs/cgroup")
FORK_BOMBS = {
    "shell": ("bash", "-c", "b() { b | b & }; b; sleep 60"),
    "fork while true": ("python3", "-c", "import os\nwhile True:\n try: os.fork()\n except OSError: pass"),
    "away from its parents": (
        "python3",
        "-c",
        "import os\nwhile True:\n try:\n  if os.fork() == 0: os.setsid()\n except OSError: pass",
    ),
}


async def says_hello(box: Sandbox) -> bool:
    done = await box.run(Command(("echo", "hello"), timeout_s=30))
    return done.stdout == b"hello\n"


@pytest.mark.parametrize("bomb", FORK_BOMBS.values(), ids=FORK_BOMBS)
async def test_a_fork_bomb_ends_with_its_call_and_hurts_no_other_session(open_box, bomb, runtime):  # B01
    async with open_box(pids=64) as box, open_box() as other:
        call = await box.start(Command(bomb, timeout_s=3))
        if runtime == "runsc":  # Its own threads count, too: at the limit the session ends as a whole.
            async with asyncio.timeout(60):
                with pytest.raises(SandboxGone):
                    await box.result(call)
                assert await says_hello(other)
            return
        await asyncio.sleep(1)
        assert (await box.jobs())[call] > 1
        assert await says_hello(other)
        # No process is left to give in there: that is said at once, or one was free.
        try:
            async with asyncio.timeout(60):
                await says_hello(box)
        except Busy:
            pass
        await box.write_file("/tmp/file", b"files need no process")
        assert await box.read_file("/tmp/file") == b"files need no process"
        async with asyncio.timeout(60):
            done = await box.result(call)
            assert done.timed_out
            while await box.jobs():
                await asyncio.sleep(0.1)
        assert await says_hello(box)
        assert await box.jobs() == {}


async def test_a_memory_bomb_is_ended_inside_and_said_to_be_one(open_box, runtime):  # B02
    async with open_box(memory_mb=128) as box:
        if runtime == "runsc":  # The host sees one process, gVisor's kernel, and ends that.
            with pytest.raises(SandboxGone):
                await box.run(Command(("python3", "-c", "b = b'x' * (1 << 30); print(len(b))")))
            return
        done = await box.run(Command(("python3", "-c", "b = b'x' * (1 << 30); print(len(b))")))
        assert (done.oom_killed, done.signal, done.stdout) == (True, signal.SIGKILL, b"")
        assert await says_hello(box)
        calm = await box.run(Command(("true",)))
        assert not calm.oom_killed


async def test_memory_files_count_as_memory(open_box):  # B02
    async with open_box(memory_mb=64, tmp_mb=512) as box:
        try:
            await box.run(Command(("dd", "if=/dev/zero", "of=/tmp/fill", "bs=1M", "count=400"), timeout_s=60))
            await box.run(Command(("rm", "-f", "/tmp/fill"), timeout_s=60))
            assert await says_hello(box)
        except SandboxGone:
            pass  # Ended as a whole, and said so: contained as well.


FILL = """
f = open("{path}", "wb", buffering=0)
n = 0
try:
    while True: n += f.write(bytes(1 << 20))
except OSError as e:
    print(e.errno, n)
"""


@pytest.mark.parametrize("place", ["/tmp", "/home/sandbox", "/dev/shm", "/workspace"])
async def test_every_writable_place_is_full_at_its_limit(open_box, place: str):  # B03
    async with open_box(tmp_mb=16, shm_mb=16, workspace_mb=16) as box:
        done = await box.run(Command(("python3", "-c", FILL.format(path=f"{place}/fill"))))
        code, written = done.stdout.split()
        assert int(code) == errno.ENOSPC
        assert int(written) <= 17 << 20
        assert (await box.stat(f"{place}/fill")).size <= 17 << 20
        with pytest.raises(OSError, match="No space"):
            await box.write_file(f"{place}/more", bytes(4 << 20))
        assert await says_hello(box)
        await box.run(Command(("rm", f"{place}/fill")))
        await box.write_file(f"{place}/more", bytes(4 << 20))


@pytest.mark.parametrize("place", ["/tmp", "/home/sandbox", "/dev/shm", "/workspace"])
async def test_every_writable_place_has_its_number_of_files(open_box, place: str, runtime):  # B04
    text = f"i=0; while [ $i -lt 3000 ]; do : > {place}/f$i || break; i=$((i+1)); done; echo $i"
    async with open_box(tmp_inodes=1000, workspace_inodes=1000) as box:
        done = await box.run(Command(("sh", "-c", text)))
        assert await says_hello(box)
        if (
            runtime == "runsc"
        ):  # Its memory file systems count no files: memory alone bounds them (next test).
            assert done.stdout == b"3000\n"
            return
        assert len(await box.list_dir(place)) <= 1000
        assert b"No space" in done.stderr


async def test_files_without_number_are_held_by_memory(open_box):  # B04
    text = (
        "import os\n"
        "n = 0\n"
        "try:\n"
        " while True: os.close(os.open(f'/tmp/{n:0200}', os.O_CREAT)); n += 1\n"
        "except OSError as e: print(e.errno)\n"
    )
    async with open_box(memory_mb=128) as box, open_box() as other:
        try:
            done = await box.run(Command(("python3", "-c", text), timeout_s=60))
            assert done.oom_killed or done.timed_out or int(done.stdout) == errno.ENOSPC
        except SandboxGone:
            pass  # ended as a whole
        assert await says_hello(other)


async def test_a_full_spill_place_loses_no_result(open_box):  # B03
    async with open_box(tmp_mb=4) as box:
        await box.run(Command(("python3", "-c", FILL.format(path="/tmp/fill"))))
        done = await box.run(Command(("sh", "-c", "yes | head -c 10000000"), output_bytes=1000))
        assert (done.exit_code, done.stdout_total, done.stdout) == (0, 10_000_000, b"y\n" * 500)


def used_s(ref: str) -> float:
    """Processor time of a container by the host's own count."""
    (usage,) = [*CGROUPS.glob(f"cpuacct/**/*{ref}*/cpuacct.usage"), *CGROUPS.glob(f"**/*{ref}*/cpu.stat")][:1]
    text = usage.read_text().split()
    return int(text[0]) / 1e9 if len(text) == 1 else int(text[text.index("usage_usec") + 1]) / 1e6


async def test_processor_time_is_held_to_the_quota(open_box):  # B05
    spin = (
        "import os, time\n"
        "for _ in range(7):\n if os.fork() == 0: break\n"
        "end = time.monotonic() + 3\n"
        "while time.monotonic() < end: pass\n"
        "try:\n while True: os.wait()\n"
        "except ChildProcessError: pass\n"
    )
    async with open_box(cpus=0.25) as box:
        before = used_s(box.ref)
        done = await box.run(Command(("python3", "-c", spin), timeout_s=100))
        used = used_s(box.ref) - before
    assert 0 < used < 0.5 * done.duration_s


FLOODS = {
    "lines": "yes | head -c 200000000",
    "binary": "head -c 200000000 /dev/urandom",
    "one line": "head -c 200000000 /dev/zero",
    "standard error": "yes | head -c 200000000 >&2",
    "interleaved": "yes | head -c 100000000 & yes | head -c 100000000 >&2; wait",
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
async def test_a_flood_is_counted_and_the_harness_stays_small(open_box, flood: str):  # B06
    async with open_box() as box:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        done = await box.run(Command(("sh", "-c", flood), output_bytes=50_000, timeout_s=100))
        grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert done.stdout_total + done.stderr_total == 200_000_000
        assert done.truncated
        assert len(done.stdout) + len(done.stderr) <= 100_000
        assert grown_kb < 16 << 10
        assert await says_hello(box)


async def test_five_thousand_orphans_leave_no_zombie(open_box, runtime):  # B10
    count = 5000 if runtime == "runc" else 200  # a process costs gVisor fifty times as much
    text = (
        "import os\n"
        f"for _ in range({count}):\n"
        " pid = os.fork()\n"
        " if pid == 0:\n"
        "  if os.fork() == 0: os._exit(0)\n"
        "  os._exit(0)\n"
        " os.waitpid(pid, 0)\n"
    )
    async with open_box() as box:
        assert (await box.run(Command(("python3", "-c", text), timeout_s=100))).exit_code == 0
        async with asyncio.timeout(30):
            while await box.jobs():
                await asyncio.sleep(0.1)
        done = await box.run(
            Command(("sh", "-c", "cat /proc/[0-9]*/stat | grep -c ' Z '; ls -d /proc/[0-9]*"))
        )
        zombies, *alive = done.stdout.split()
        assert int(zombies) == 0
        assert len(alive) < 10


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM], ids=lambda one: one.name)
async def test_a_signal_to_everything_leaves_a_sandbox_that_answers(open_box, number: signal.Signals):  # B11
    text = f"import os, time\nprint('shooting', flush=True)\nos.kill(-1, {int(number)})\ntime.sleep(60)"
    async with open_box() as box:
        bystander = await box.start(Command(("sleep", "60"), timeout_s=8))
        async with asyncio.timeout(60):
            done = await box.run(Command(("python3", "-c", text), timeout_s=3))
            assert done.timed_out or done.signal
            hit = await box.result(bystander)
            assert hit.timed_out or hit.signal in (signal.SIGKILL, signal.SIGTERM)
            assert await says_hello(box)
            assert await box.jobs() == {}


async def test_reading_the_kernels_own_files_ends_at_once(open_box):  # B13
    async with open_box() as box:
        async with asyncio.timeout(20):
            for path in (
                "/proc/kmsg",
                "/dev/zero",
                "/dev/random",
                "/proc/1/mem",
                "/proc/self/pagemap",
                "/dev/tty",
            ):
                try:
                    found = await box.read_file(path, limit=4096)
                except (ValueError, OSError):
                    continue
                assert len(found) <= 4096
            status = await box.read_file("/proc/self/status")
        assert b"CapEff:\t0000000000000000" in status


async def test_a_line_of_a_hundred_megabytes_is_refused_and_can_be_looked_into(open_box):  # B13
    async with open_box() as box:
        await box.run(Command(("sh", "-c", "head -c 100000000 /dev/zero > /tmp/line")))
        with pytest.raises(OSError, match="too large"):
            await box.read_file("/tmp/line")
        assert await box.read_file("/tmp/line", offset=50_000_000, limit=10) == bytes(10)


async def test_open_files_and_watches_are_bounded(open_box, runtime):  # B17
    text = (
        "import os, resource\n"
        "try: resource.setrlimit(resource.RLIMIT_NOFILE, (100000, 100000))\n"
        "except (ValueError, OSError): pass\n"
        "n = 0\n"
        "try:\n while True: os.dup(0); n += 1\n"
        "except OSError as e: print(e.errno, n)\n"
    )
    files = 256 if runtime == "runc" else 1024
    async with open_box(open_files=files) as box:
        code, opened = (await box.run(Command(("python3", "-c", text)))).stdout.split()
        assert int(code) == errno.EMFILE
        assert int(opened) < files


async def test_the_clock_is_the_hosts(open_box):  # B18
    before = Path("/proc/stat").read_text().split("btime ")[1].split()[0]
    async with open_box() as box:
        for attempt in ("date -s '2001-01-01'", "hwclock --set --date 2001-01-01"):
            assert (await box.run(Command(("sh", "-c", attempt)))).exit_code != 0
        done = await box.run(
            Command(("python3", "-c", "import time; time.clock_settime(time.CLOCK_REALTIME, 0)"))
        )
        assert b"Operation not permitted" in done.stderr
    assert abs(int(Path("/proc/stat").read_text().split("btime ")[1].split()[0]) - int(before)) <= 1
