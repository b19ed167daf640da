"""Files read and written, small and large: over the wire, and by the engine's archive API (`docker cp`).

Both work on the same file of the same workspace on disk: the archive API cannot see memory file systems.
"""

from __future__ import annotations

import io
import os
import tarfile
from typing import Any

from sandbox import Sandbox, SandboxSpec, open_sandbox
from tests.bench.figure import Beside, Figure, NotMeasured, Target
from tests.bench.place import Bench, sdk
from tests.bench.sampling import Contender, blocking, interleaved, timed

KIB, MIB = 1 << 10, 1 << 20
DIRECTORY, NAME = "/workspace", "bench.bin"
PATH = f"{DIRECTORY}/{NAME}"


async def measure(bench: Bench) -> list[Figure]:
    with bench.directory() as scratch, sdk() as client:
        (scratch / "kept.txt").write_text("the archive API needs a workspace on disk\n")
        async with open_sandbox(SandboxSpec(policy=bench.policy, workspace=scratch)) as box:
            small = await _both(bench, box, client, KIB, "1 KiB", (0.3e-3, 0.5e-3), each=25)
            large = await _both(bench, box, client, 10 * MIB, "10 MiB", (30e-3, 40e-3), each=2)
    return small + large


async def _both(
    bench: Bench, box: Sandbox, client: Any, size: int, name: str, limits: tuple[float, float], each: int
) -> list[Figure]:
    data = os.urandom(size)
    container = box.ref

    async def read() -> None:
        _same(await box.read_file(PATH), data)

    async def write() -> None:
        await box.write_file(PATH, data)

    await write()
    rounds = bench.count(20, 3)
    reads, docker_reads = await interleaved(
        rounds,
        Contender("usermode", timed(read), each),
        Contender("docker archive (SDK)", blocking(lambda: _same(get(client, container), data))),
    )
    writes, docker_writes = await interleaved(
        rounds,
        Contender("usermode", timed(write), each),
        Contender("docker archive (SDK)", blocking(lambda: put(client, container, data))),
    )
    _same(await box.read_file(PATH), data)
    return [
        Figure(f"read {name}", reads, Target(limits[0]), (Beside(docker_reads),)),
        Figure(f"write {name}", writes, Target(limits[1]), (Beside(docker_writes),)),
    ]


def get(client: Any, container: str) -> bytes:
    pieces, _ = client.get_archive(container, PATH)
    with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as archive:
        member = archive.extractfile(NAME)
        assert member is not None
        return member.read()


def put(client: Any, container: str, data: bytes) -> None:
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w") as archive:
        entry = tarfile.TarInfo(NAME)
        entry.size, entry.uid, entry.gid = len(data), 1000, 1000
        archive.addfile(entry, io.BytesIO(data))
    if not client.put_archive(container, DIRECTORY, body.getvalue()):
        raise NotMeasured("the archive API did not take the file")


def _same(got: bytes, wanted: bytes) -> None:
    if got != wanted:
        raise NotMeasured(f"read {len(got)} bytes that are not the {len(wanted)} that were written")
