"""Programs inside that dial and that listen: `nc` where it is small and plain, python3 else."""

from __future__ import annotations

import asyncio
import itertools
import shlex
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from sandbox.conformance.asking import ask
from sandbox.protocol import Connection, Sandbox

_PORTS = itertools.count(20_000)

_NC = """
import socket, sys, threading
how, port = sys.argv[1], int(sys.argv[2])
if how == "accept":
    line = socket.create_server(("127.0.0.1", port)).accept()[0]
else:
    line = socket.create_connection(("127.0.0.1", port))
def upward():
    while data := sys.stdin.buffer.raw.read(65536):
        line.sendall(data)
    line.shutdown(socket.SHUT_WR)
threading.Thread(target=upward, daemon=True).start()
while data := line.recv(65536):
    sys.stdout.buffer.raw.write(data)
"""


@dataclass(frozen=True)
class Sockets:
    """Shell text for both: standard input goes out and is ended; what comes is printed, to its end."""

    dial: str
    accept: str

    def to(self, port: int) -> str:
        return f"{self.dial} {port}"

    def at(self, port: int) -> str:
        return f"{self.accept} {port}"


async def sockets_of(box: Sandbox) -> Sockets:
    """What this sandbox's image has for it. RuntimeError when it has nothing."""
    if (await ask(box, "command -v python3")).exit_code == 0:
        text = f"python3 -c {shlex.quote(_NC)}"
        return Sockets(f"{text} dial", f"{text} accept")
    # Of the programs called nc, the small one passes the end of its input on.
    found = await ask(box, "nc --help")
    if b"BusyBox" in found.stdout + found.stderr or b"the double" in found.stderr:
        return Sockets("nc 127.0.0.1", "nc -l -p")
    raise RuntimeError("this image has neither python3 nor BusyBox's nc, so connections cannot be checked")


def free_port() -> int:
    """One that no check has used."""
    return next(_PORTS)


class Door:
    """Listens at a port of its own; the connections wait to be taken, and are served until `box` ends."""

    def __init__(self) -> None:
        self.port = free_port()
        self._arrived: asyncio.Queue[Connection] = asyncio.Queue()

    @classmethod
    async def at(cls, box: Sandbox) -> Door:
        door = cls()
        await box.listen(door.port, door._serve)
        return door

    async def _serve(self, connection: Connection) -> None:
        self._arrived.put_nowait(connection)
        await asyncio.Event().wait()

    async def next(self) -> Connection:
        return await self._arrived.get()


async def all_of(connection: Connection) -> bytes:
    """What comes until the other side has said all."""
    parts = []
    while data := await connection.receive():
        parts.append(data)
    return b"".join(parts)


async def connected(box: Sandbox, port: int) -> Connection:
    """To a program that is just beginning to listen."""
    while True:
        try:
            return await box.connect(port)
        except ConnectionRefusedError:
            await asyncio.sleep(0.05)


def serving(answer: Callable[[bytes], bytes]) -> Callable[[Connection], Awaitable[None]]:
    """A server that hears all and then answers."""

    async def serve(connection: Connection) -> None:
        await connection.send(answer(await all_of(connection)))

    return serve
