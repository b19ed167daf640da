"""Connections on a real container: who dialled, hidden or shared; another host; too many (N28, B16)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from policies import load
from sandbox import Command, Sandbox, SandboxSpec, attach_sandbox, open_sandbox
from sandbox.conformance.dialling import Door, all_of, connected
from sandbox.engine import Engine
from sandbox.errors import Busy
from sandbox.protocol import Connection

pytestmark = pytest.mark.docker


def python(text: str, *words: object) -> Command:
    return Command(("python3", "-c", text, *(str(word) for word in words)), cwd="/tmp", timeout_s=60)


@pytest.fixture
async def box() -> AsyncIterator[Sandbox]:
    async with open_sandbox(SandboxSpec(load("strict"))) as one:
        yield one


HIDDEN = """
import ctypes, socket, sys
assert ctypes.CDLL(None).prctl(4, 0, 0, 0, 0) == 0
line = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
line.recv(1)
"""
MAPPED = """
import socket, sys
line = socket.socket(socket.AF_INET6)
line.connect(("::ffff:127.0.0.1", int(sys.argv[1])))
line.recv(1)
"""
ELSEWHERE = """
import socket, sys
line = socket.socket()
line.bind(("127.7.7.7", 0))
line.connect(("127.0.0.1", int(sys.argv[1])))
line.recv(1)
"""
HANDED_DOWN = """
import os, socket, sys, time
line, parent = socket.socket(), os.getpid()
if os.fork(): os._exit(0)
os.setsid()
while os.getppid() == parent: time.sleep(0.01)
line.connect(("127.0.0.1", int(sys.argv[1])))
line.recv(1)
"""
HOLDER = """
import socket
door = socket.socket(socket.AF_UNIX)
door.bind("/tmp/handover")
door.listen()
line = door.accept()[0]
_, held, _, _ = socket.recv_fds(line, 1, 1)
line.send(b"x")
line.recv(1)
"""
SHARER = """
import socket, sys, time
shared, hand = socket.socket(), socket.socket(socket.AF_UNIX)
while hand.connect_ex("/tmp/handover"):
    time.sleep(0.02)
socket.send_fds(hand, [b"x"], [shared.fileno()])
hand.recv(1)
shared.connect(("127.0.0.1", int(sys.argv[1])))
shared.recv(1)
"""


async def test_who_dialled_is_told_or_unknown_but_never_another(box: Sandbox) -> None:
    door = await Door.at(box)
    for text, known in ((MAPPED, True), (ELSEWHERE, True), (HANDED_DOWN, True), (HIDDEN, False)):
        call = await box.start(python(text, door.port))
        connection = await door.next()
        assert connection.origin.call_id == (call if known else None), text
        connection.abort()
        await box.result(call)
    holder = await box.start(python(HOLDER))
    sharer = await box.start(python(SHARER, door.port))
    connection = await door.next()
    assert (connection.origin.call_id, connection.origin.pid, connection.origin.program) == (None, None, "")
    for call in (holder, sharer):
        await box.kill(call)


SPEAKS_ON = """
import socket, sys
line = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
heard = b""
while data := line.recv(100):
    heard += data
for _ in range(300):
    line.sendall(bytes(10000))
print(heard.decode())
"""
RESETS = """
import socket, struct, sys
line = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
line.sendall(b"before")
line.recv(1)
line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
line.close()
"""
IS_CUT = """
import socket, sys
line = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
try:
    print(line.recv(1))
except ConnectionResetError:
    print("reset")
"""


async def test_each_side_ends_and_breaks_as_a_socket_does(box: Sandbox) -> None:
    door = await Door.at(box)
    call = await box.start(python(SPEAKS_ON, door.port))
    connection = await door.next()
    await connection.send(b"all there is")
    await connection.end()
    assert len(await all_of(connection)) == 3_000_000
    assert (await box.result(call)).stdout == b"all there is\n"

    call = await box.start(python(RESETS, door.port))
    connection = await door.next()
    assert await connection.receive() == b"before"
    await connection.send(b"x")
    with pytest.raises(ConnectionError):
        await connection.receive()
    await box.result(call)

    call = await box.start(python(IS_CUT, door.port))
    (await door.next()).abort()
    assert (await box.result(call)).stdout == b"reset\n"

    text = (
        "import socket; socket.create_server(('::1', 4000), family=socket.AF_INET6).accept()[0].send(b'six')"
    )
    call = await box.start(python(text))
    async with asyncio.timeout(30):
        assert await all_of(await connected(box, 4000)) == b"six"
    await box.result(call)


HOARDS = """
import socket, sys, time
server = socket.create_server(("127.0.0.1", 4000))
lines = [socket.create_connection(("127.0.0.1", int(sys.argv[1]))) for _ in range(300)]
print("held", flush=True)
line = server.accept()[0]
line.sendall(b"still reached")
line.close()
for one in lines: one.close()
line = socket.create_connection(("127.0.0.1", int(sys.argv[2])))
print(line.recv(100).decode())
"""


async def test_a_program_that_takes_every_connection_holds_up_only_itself(box: Sandbox) -> None:
    async def hold(connection: Connection) -> None:
        await all_of(connection)

    async def greet(connection: Connection) -> None:
        await connection.send(b"welcome")

    await box.listen(4001, hold)
    await box.listen(4002, greet)
    call = await box.start(python(HOARDS, 4001, 4002))
    async with asyncio.timeout(30):
        while b"held" not in (await box.progress(call)).stdout:
            assert (await box.run(Command(("echo", "fine")))).stdout == b"fine\n"
    reached = await box.connect(4000)
    assert await all_of(reached) == b"still reached"
    await reached.end()
    assert (await box.result(call)).stdout == b"held\nwelcome\n"


async def test_connections_beyond_the_last_are_refused_to_the_host_by_name(box: Sandbox) -> None:
    call = await box.start(
        python(
            "import socket, time; s = socket.create_server(('127.0.0.1', 4000), backlog=400); time.sleep(50)"
        )
    )
    async with asyncio.timeout(30):
        first = await connected(box, 4000)
    others = [await box.connect(4000) for _ in range(255)]
    with pytest.raises(Busy):
        await box.connect(4000)
    first.abort()
    others[0].abort()
    again = await box.connect(4000)
    for connection in (*others, again):
        connection.abort()
    await box.kill(call)


WATCHES = """
import socket, sys
port = int(sys.argv[1])
line = socket.create_connection(("127.0.0.1", port))
line.sendall(b"x")
try:
    line.recv(1)
    print("ended")
except ConnectionResetError:
    print("reset")
taken = []
for address in ("127.0.0.1", "0.0.0.0"):
    thief = socket.socket()
    thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        thief.bind((address, port))
        thief.listen()
        taken.append(address)
    except OSError:
        thief.close()
print(taken)
print(socket.create_connection(("127.0.0.1", port)).recv(100))
"""


async def test_another_host_finds_the_port_kept_and_the_connections_gone(
    engine: Engine, tmp_path: Path
) -> None:
    async with open_sandbox(SandboxSpec(load("strict"), state=tmp_path), engine=engine) as first:
        door = await Door.at(first)
        call = await first.start(python(WATCHES, door.port))
        assert await (await door.next()).receive() == b"x"
        ref = await first.detach()
    async with attach_sandbox(ref, engine=engine) as second:

        async def greet(connection: Connection) -> None:
            await connection.send(b"the next host")

        await second.listen(door.port, greet)
        assert (await second.result(call)).stdout == b"reset\n[]\nb'the next host'\n"
