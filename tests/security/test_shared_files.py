"""What all containers share with the host, the engine's programs and an image's files, stays as it was."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from policies import load
from sandbox import Command, Sandbox, SandboxSpec, open_sandbox
from sandbox.cache import cache_dir

pytestmark = pytest.mark.docker

OVERWRITE = """
import glob, os
os.symlink("/proc/self/exe", "/tmp/self")
with open("/tmp/script", "w") as script:
    script.write("#!/proc/self/exe\\n")
os.chmod("/tmp/script", 0o755)
own = os.readlink("/proc/self/exe")
print("ready", flush=True)
strangers, written = set(), []
while not os.path.exists("/tmp/stop"):
    for path in glob.glob("/proc/[0-9]*/exe"):
        try:
            program = os.readlink(path)
        except OSError:
            continue
        strangers.add(program)
        for held in (os.O_WRONLY, os.O_RDWR, os.O_RDONLY, os.O_PATH):
            try:
                file = os.open(path, held)
            except OSError:
                continue
            # Held open, it can be asked for again once nothing runs it.
            for again in (file, None):
                try:
                    target = again if again is not None else os.open(f"/proc/self/fd/{file}", os.O_WRONLY)
                    os.pwrite(target, b"#!/bin/sh\\ntouch /tmp/overwritten\\n", 0)
                    written.append(program)
                except OSError:
                    pass
            os.close(file)
print(sorted(strangers), "written", written)
"""

DIRTY = """
import ctypes, fcntl, json, mmap, os, sys
path = sys.argv[1]
libc = ctypes.CDLL(None, use_errno=True)
file = os.open(path, os.O_RDONLY)
worked = []

def attempt(function):
    try:
        function()
        worked.append(function.__name__)
    except OSError:
        pass

def check(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return result

def used_pipe():
    # Filled and drained: what is left of a page's flags there is what the hole was made of.
    reader, writer = os.pipe()
    size = fcntl.fcntl(writer, 1032)  # F_GETPIPE_SZ
    os.write(writer, b"x" * size)
    os.read(reader, size)
    return reader, writer

def splice():
    reader, writer = used_pipe()
    assert os.splice(file, writer, 1, offset_src=0) == 1
    os.write(writer, b"OVERWRITTEN")

def tee():
    (reader, writer), (_, second) = used_pipe(), used_pipe()
    os.splice(file, writer, 1, offset_src=0)
    check(libc.tee(reader, second, 1, 0))
    os.write(second, b"OVERWRITTEN")

page = mmap.mmap(file, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
start = ctypes.addressof(ctypes.c_char.from_buffer(page))

class Iov(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]

def vmsplice():
    _, writer = used_pipe()
    check(libc.vmsplice(writer, ctypes.byref(Iov(start, 64)), 1, 8))  # SPLICE_F_GIFT
    os.write(writer, b"OVERWRITTEN")

def own_memory():
    for advice in (4, 3) * 50:  # MADV_DONTNEED, MADV_WILLNEED
        check(libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(4096), advice))
        with open("/proc/self/mem", "r+b", buffering=0) as memory:
            memory.seek(start)
            memory.write(b"OVERWRITTEN")

def shared_page():
    libc.mmap.restype = ctypes.c_void_p
    shared = libc.mmap(None, ctypes.c_size_t(4096), 1, 1, file, ctypes.c_long(0))
    check(libc.mprotect(ctypes.c_void_p(shared), ctypes.c_size_t(4096), 3))
    ctypes.memmove(shared, b"OVERWRITTEN", 11)

def opened():
    os.pwrite(os.open(path, os.O_RDWR), b"OVERWRITTEN", 0)

def opened_again():
    os.pwrite(os.open(f"/proc/self/fd/{file}", os.O_RDWR), b"OVERWRITTEN", 0)

def truncated():
    os.truncate(path, 0)

for function in (splice, tee, vmsplice, own_memory, shared_page, opened, opened_again, truncated):
    attempt(function)
print(json.dumps(worked))
"""


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def engine_programs() -> dict[Path, str]:
    """Programs of the host that enter a container, each with its digest."""
    names = ("runc", "docker", "dockerd", "containerd", "docker-init")
    found = [Path(path).resolve() for name in names if (path := shutil.which(name))]
    inits = [path for path in cache_dir().rglob("*") if path.is_file() and path.name.startswith("init")]
    return {path: digest(path) for path in [*found, *inits]}


async def test_the_engines_programs_cannot_be_overwritten_while_they_enter(box: Sandbox, strict_spec):  # A19
    before = engine_programs()
    assert shutil.which("runc")
    call = await box.start(Command(("python3", "-c", OVERWRITE), timeout_s=90))
    while b"ready" not in (await box.progress(call)).stdout:
        await asyncio.sleep(0.05)
    for argv in (["true"], ["/tmp/self", "--version"], ["/tmp/script"]):
        for user in ([], ["-u", "0"]):
            # The engine's own way in, which usermode never takes: its program runs among the guest's.
            await asyncio.to_thread(
                subprocess.run, ["docker", "exec", *user, box.ref, *argv], capture_output=True, check=False
            )
        for _ in range(5):
            assert (await box.run(Command(("true",)))).exit_code == 0
    await box.write_file("/tmp/stop", b"")
    done = await box.result(call)
    assert done.exit_code == 0, done.stderr.decode()
    assert b"/usr/bin/" in done.stdout
    assert done.stdout.rstrip().endswith(b"written []")
    assert engine_programs() == before
    async with open_sandbox(strict_spec) as another:
        assert (await another.run(Command(("true",)))).exit_code == 0


@pytest.mark.parametrize("seccomp", ["strict", "default"])
@pytest.mark.parametrize("path", ["/etc/passwd", "/usr/bin/env"])
async def test_a_file_of_the_image_is_the_same_for_everyone(path: str, seccomp: str):  # A41
    policy = load("strict")
    container = policy.container.model_copy(update={"seccomp": seccomp})
    spec = SandboxSpec(policy=policy.model_copy(update={"container": container}))
    async with open_sandbox(spec) as box, open_sandbox(spec) as other:
        before = await other.read_file(path)
        done = await box.run(Command(("python3", "-c", DIRTY, path)))
        assert done.exit_code == 0, done.stderr.decode()
        # These touch a copy where the kernel is mended; that they did is for the bytes below to say.
        worked = set(json.loads(done.stdout))
        assert worked <= {"splice", "tee", "vmsplice", "own_memory"}
        assert ("splice" in worked) == (seccomp == "default")
        assert await other.read_file(path) == before
        assert await box.read_file(path) == before
    async with open_sandbox(spec) as third:
        assert await third.read_file(path) == before


@pytest.fixture
def strict_spec() -> SandboxSpec:
    return SandboxSpec(policy=load("strict"))


async def test_no_console_is_bound(box: Sandbox, sh):  # A15
    for fields in ({}, {"tty": (24, 80)}):
        done = await sh("if test -e /dev/console || test -L /dev/console; then echo there; fi", **fields)
        assert (done.exit_code, done.stdout) == (0, b"")
        assert b" /dev/console " not in (await sh("cat /proc/self/mountinfo", **fields)).stdout
