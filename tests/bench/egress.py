"""Through the gate: a hundred megabytes, a warm request, what a call waits meanwhile; beside no gate at all.

The server and the direct client are processes of their own on the host's loopback.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from policies.schema import Network
from sandbox import Command, SandboxSpec, open_sandbox
from sandbox.egress import Gate
from sandbox.protocol import Sandbox
from tests.bench.figure import Beside, Figure, NotMeasured, Target
from tests.bench.place import Bench
from tests.bench.sampling import Contender, interleaved, single

SIZE = 100 << 20
REQUESTS = 100

SERVER = """
import socket, threading
piece, size = bytes(1 << 20), SIZE
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
def serve(line):
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    heard = b""
    while data := line.recv(65536):
        heard += data
        while b"\\r\\n\\r\\n" in heard:
            head, _, heard = heard.partition(b"\\r\\n\\r\\n")
            if b"/big" not in head:
                line.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")
                continue
            line.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % size)
            for _ in range(size >> 20):
                line.sendall(piece)
while True:
    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
""".replace("SIZE", str(SIZE))

# Prints the seconds it took: of the download with its connection, or of one request among many.
CLIENT = """
import socket, sys, time
how, host, port, times = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
room = bytearray(1 << 20)
started = time.perf_counter()
line = socket.create_connection(("127.0.0.1", port if how == "direct" else 3128))
line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
name = f"{host}:{port}"
def head():
    got = b""
    while b"\\r\\n\\r\\n" not in got:
        got += line.recv(65536)
    return got.partition(b"\\r\\n\\r\\n")
if how == "tunnel":
    line.sendall(f"CONNECT {name} HTTP/1.1\\r\\nHost: {name}\\r\\n\\r\\n".encode())
    assert b" 200 " in head()[0]
before = f"http://{name}" if how == "proxy" else ""
def ask(path):
    line.sendall(f"GET {before}{path} HTTP/1.1\\r\\nHost: {name}\\r\\n\\r\\n".encode())
    first, _, body = head()
    assert b" 200 " in first, first
    length = int(first.lower().partition(b"content-length: ")[2].split()[0]) - len(body)
    while length:
        length -= line.recv_into(room) or sys.exit("cut short")
if times == 1:
    ask("/big")
    print(time.perf_counter() - started)
else:
    ask("/warm")
    started = time.perf_counter()
    for _ in range(times):
        ask("/small")
    print((time.perf_counter() - started) / times)
"""


async def measure(bench: Bench) -> list[Figure]:
    waits: list[float] = []
    async with _server() as port:
        network = Network(allow=(f"big.test:{port}",), addresses=("127.0.0.0/8",))
        policy = bench.policy.model_copy(update={"network": network})
        async with open_sandbox(SandboxSpec(policy=policy, gate=Gate(policy, resolver=_loopback))) as box:

            def inside(how: str, times: int = 1) -> Callable[[], Awaitable[float]]:
                words = ("python3", "-c", CLIENT, how, "big.test", str(port), str(times))
                return lambda: _inside(box, words)

            def direct(times: int = 1) -> Callable[[], Awaitable[float]]:
                words = (sys.executable, "-c", CLIENT, "direct", "big.test", str(port), str(times))
                return lambda: _on_the_host(words)

            async def watched() -> float:
                running = asyncio.ensure_future(inside("tunnel")())
                waits.extend(await _waits(box, running))
                return await running

            tunnel, plain, without = await interleaved(
                bench.count(5, 1),
                Contender("usermode, a tunnel", watched),
                Contender("usermode, plain HTTP", inside("proxy")),
                Contender("direct, on the host", direct()),
            )
            warm, warm_without = await interleaved(
                bench.count(10, 1),
                Contender("usermode", inside("proxy", REQUESTS)),
                Contender("direct, on the host", direct(REQUESTS)),
            )
    target = Target(SIZE / 150e6)
    return [
        Figure("100 MB from the outside, in a tunnel", tunnel, target, (Beside(without),)),
        Figure("100 MB from the outside, plain HTTP", plain, target, (Beside(without),)),
        Figure("a call meanwhile (`stat`)", single("usermode", waits), Target(0.010)),
        Figure("a warm request through the gate", warm, Target(0.003), (Beside(warm_without),)),
    ]


@contextlib.asynccontextmanager
async def _server() -> AsyncIterator[int]:
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVER, stdout=asyncio.subprocess.PIPE
    )
    assert server.stdout is not None
    try:
        yield int(await server.stdout.readline())
    finally:
        server.kill()
        await server.wait()


async def _loopback(name: str) -> Sequence[str]:
    return ["127.0.0.1"]


async def _inside(box: Sandbox, words: Sequence[str]) -> float:
    done = await box.run(Command(tuple(words), cwd="/tmp"))
    return _seconds(done.exit_code, done.stdout, done.stderr)


async def _on_the_host(words: Sequence[str]) -> float:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*words, stdout=pipe, stderr=pipe)
    out, err = await process.communicate()
    return _seconds(process.returncode or 0, out, err)


def _seconds(code: int, out: bytes, err: bytes) -> float:
    if code:
        raise NotMeasured(f"the client ended with {code}: {err[-300:]!r}")
    return float(out)


async def _waits(box: Sandbox, running: asyncio.Future[Any]) -> list[float]:
    samples: list[float] = []
    while not running.done():
        started = time.perf_counter()
        await box.stat("/tmp")
        samples.append(time.perf_counter() - started)
        await asyncio.sleep(0.002)
    return samples
