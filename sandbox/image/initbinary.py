"""The init binary (PID 1 of every container): compiled once from images/init, in a throw-away container.

No compiler is needed on the host. The result is kept under the digest of sources and flags, beside the hosts
file that is mounted with it, so the second call reads a few small files and returns.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import os
import secrets
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from sandbox import owner
from sandbox.cache import cache_dir, exclusively
from sandbox.engine import REMOTE, Engine
from sandbox.errors import EngineFailed, ImageMissing, SandboxRefused
from sandbox.image.build import recipes

COMPILER_IMAGE = "usermode/dev"
FLAGS = "-std=gnu11 -static -Os -s -Wall -Wextra -Werror -fstack-protector-strong -D_FORTIFY_SOURCE=2"
SCRIPT = f"gcc {FLAGS} -o /tmp/init /source/*.c && base64 /tmp/init"
HOSTS = "127.0.0.1\tlocalhost sandbox\n::1\tlocalhost ip6-localhost ip6-loopback\n"
COMPILE_S = 120.0
TASK = "usermode.task"
"""Label of a container that makes something for sessions."""
TEMPORARY = "usermode-init-"


async def init_binary(engine: Engine) -> Path:
    """The binary on this machine's disk, with `hosts` beside it. Both are read-only files.

    ImageMissing without the image that holds the compiler, EngineFailed with the compiler's first complaint,
    SandboxRefused where the engine cannot see this machine's files.
    """
    if not engine.is_local:
        raise SandboxRefused(REMOTE)
    binary = await asyncio.to_thread(location)
    if not await asyncio.to_thread(binary.exists):
        async with exclusively("init"):
            if not await asyncio.to_thread(binary.exists):
                program = await compile_init(engine, await asyncio.to_thread(_sources))
                await asyncio.to_thread(_keep, binary.parent, program)
    return binary


def location() -> Path:
    """Where the binary of these sources is, or will be."""
    return cache_dir() / "init" / _digest(_sources()) / "init"


async def compile_init(engine: Engine, sources: dict[str, bytes]) -> bytes:
    """A static program from C sources by file name, compiled without network, capabilities or host files."""
    try:
        image = await engine.image(COMPILER_IMAGE)
    except ImageMissing:
        raise ImageMissing(COMPILER_IMAGE) from None
    with tempfile.TemporaryDirectory(prefix=TEMPORARY) as directory:
        await asyncio.to_thread(_lay_out, Path(directory), sources)
        config = _compiler(image.id, directory)
        code, out, err = await engine.run_once(config, f"{TEMPORARY}{secrets.token_hex(6)}", COMPILE_S)
    if code != 0:
        complaint = next(
            (line for line in err.decode("utf-8", "replace").splitlines() if "error" in line), ""
        )
        raise EngineFailed(
            f"compiling init failed (exit {code}): {complaint or err.decode('utf-8', 'replace')}"
        )
    try:
        program = base64.b64decode(out, validate=False)
    except binascii.Error as error:
        raise EngineFailed(f"compiling init printed no program: {error}") from error
    if not program.startswith(b"\x7fELF"):
        raise EngineFailed("compiling init printed no program")
    return program


@cache
def _sources() -> dict[str, bytes]:
    """Read once: a process goes on with the init that it began with, as it does with its modules."""
    directory = recipes() / "init"
    return {path.name: path.read_bytes() for path in sorted([*directory.glob("*.c"), *directory.glob("*.h")])}


def _digest(sources: dict[str, bytes]) -> str:
    digest = hashlib.sha256(f"{SCRIPT}\n{HOSTS}\n{os.uname().machine}".encode())
    for name, content in sources.items():
        digest.update(f"\n{name} {hashlib.sha256(content).hexdigest()}".encode())
    return digest.hexdigest()


def _lay_out(directory: Path, sources: dict[str, bytes]) -> None:
    """The compiler runs as another user, so the temporary directory's 0700 has to open up."""
    owner.claim(directory)  # For whoever finds it after a kill.
    directory.chmod(0o755)
    for name, content in sources.items():
        (directory / name).write_bytes(content)
        (directory / name).chmod(0o644)


def _compiler(image_id: str, source: str) -> dict[str, Any]:
    return {
        "Image": image_id,
        "User": "1000:1000",
        "Entrypoint": ["/bin/sh", "-c", SCRIPT],
        "Cmd": [],
        "Env": ["PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8"],
        "WorkingDir": "/source",
        "NetworkDisabled": True,
        "Labels": {TASK: "init", owner.OWNER: owner.this_process()},
        "HostConfig": {
            "NetworkMode": "none",
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "ReadonlyRootfs": True,
            "Memory": 1 << 30,
            "MemorySwap": 1 << 30,
            "PidsLimit": 128,
            "Tmpfs": {"/tmp": "rw,nosuid,nodev,exec,size=256m,mode=1777"},
            "Mounts": [{"Type": "bind", "Source": source, "Target": "/source", "ReadOnly": True}],
            # The program comes out through the log.
            "LogConfig": {"Type": "json-file", "Config": {}},
        },
    }


def _keep(directory: Path, program: bytes) -> None:
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    _place(directory / "hosts", HOSTS.encode(), 0o444)
    # Last, since its presence says that all is there.
    _place(directory / "init", program, 0o555)


def _place(path: Path, content: bytes, mode: int) -> None:
    """Atomically, so that no one ever mounts half a program."""
    descriptor, name = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fchmod(stream.fileno(), mode)
        os.fsync(stream.fileno())
    Path(name).rename(path)
