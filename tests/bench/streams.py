"""Connections over the wire: how fast a hundred megabytes are each way, and what a call waits meanwhile."""

from __future__ import annotations

import asyncio
import time

from sandbox import Command, SandboxSpec, open_sandbox
from sandbox.protocol import Connection, Sandbox
from tests.bench.figure import Beside, Figure, NotMeasured, Target
from tests.bench.place import Bench
from tests.bench.sampling import Contender, Series, interleaved, single

SIZE = 100 << 20
PIECE = 1 << 20
DOWN, UP, ECHO, DIRECT = 7001, 7002, 7003, 7004
"""DIRECT is a program inside that sends as DOWN does: the same reader, without the wire."""
DIALS = 100

# Each prints the seconds it took from its dialling.
READS = """
import socket, sys, time
started, total, room = time.perf_counter(), 0, bytearray(1 << 20)
line = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
while count := line.recv_into(room):
    total += count
print(time.perf_counter() - started, total)
"""
WRITES = """
import socket, sys, time
started, piece = time.perf_counter(), bytes(1 << 20)
line = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
for _ in range(int(sys.argv[2])):
    line.sendall(piece)
line.shutdown(socket.SHUT_WR)
total = int(line.recv(100))
print(time.perf_counter() - started, total)
"""
SENDS = """
import socket, sys
server, piece = socket.create_server(("127.0.0.1", int(sys.argv[1]))), bytes(1 << 20)
while True:
    line = server.accept()[0]
    for _ in range(int(sys.argv[2])):
        line.sendall(piece)
    line.close()
"""
DIALS_OFTEN = """
import socket, sys, time
started, times = time.perf_counter(), int(sys.argv[2])
for _ in range(times):
    line = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    line.sendall(b"x")
    line.recv(1)
    line.close()
print((time.perf_counter() - started) / times, times)
"""


async def measure(bench: Bench) -> list[Figure]:
    waits: dict[int, list[float]] = {DOWN: [], UP: []}
    async with open_sandbox(SandboxSpec(policy=bench.policy)) as box:
        await box.listen(DOWN, _send_all)
        await box.listen(UP, _count_all)
        await box.listen(ECHO, _echo)
        direct = await box.start(_python(SENDS, DIRECT, SIZE // PIECE))
        await asyncio.sleep(0.5)

        async def carried(text: str, port: int) -> float:
            running = asyncio.create_task(_timed(box, text, port, SIZE // PIECE, SIZE))
            waits[port] += await _waits(box, running)
            return await running

        down, up, inside, dialled = await interleaved(
            bench.count(5, 1),
            Contender("from the host", lambda: carried(READS, DOWN)),
            Contender("to the host", lambda: carried(WRITES, UP)),
            Contender("inside alone", lambda: _timed(box, READS, DIRECT, SIZE // PIECE, SIZE)),
            Contender("usermode", lambda: _timed(box, DIALS_OFTEN, ECHO, DIALS, DIALS)),
        )
        await box.kill(direct)
    target = Target(SIZE / 150e6)
    return [
        Figure("100 MB to a program inside, over a connection", down, target, (Beside(inside),)),
        Figure("100 MB from a program inside, over a connection", up, target, (Beside(inside),)),
        Figure("`stat` while 100 MB go in", _series(waits[DOWN]), Target(0.010)),
        Figure("`stat` while 100 MB come out", _series(waits[UP]), Target(0.010)),
        Figure("a connection dialled, answered and closed", dialled, Target(0.003)),
    ]


def _series(samples: list[float]) -> Series:
    return single("usermode", samples)


def _python(text: str, *words: object) -> Command:
    return Command(("python3", "-c", text, *(str(word) for word in words)), cwd="/tmp")


async def _timed(box: Sandbox, text: str, port: int, times: int, expected: int) -> float:
    done = await box.run(_python(text, port, times))
    took, total = (*done.stdout.split(), b"", b"")[:2]
    if done.exit_code or int(total) != expected:
        raise NotMeasured(f"{total!r} came of {expected}: {done.stderr!r}")
    return float(took)


async def _waits(box: Sandbox, running: asyncio.Task[float]) -> list[float]:
    samples = []
    while not running.done():
        started = time.perf_counter()
        await box.stat("/tmp")
        samples.append(time.perf_counter() - started)
        await asyncio.sleep(0.002)
    return samples


async def _send_all(connection: Connection) -> None:
    piece = bytes(PIECE)
    for _ in range(SIZE // PIECE):
        await connection.send(piece)


async def _count_all(connection: Connection) -> None:
    total = 0
    while data := await connection.receive():
        total += len(data)
    await connection.send(str(total).encode())


async def _echo(connection: Connection) -> None:
    while data := await connection.receive():
        await connection.send(data)
