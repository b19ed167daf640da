"""`usermode port`: a port of a running session, on this machine's loopback and nowhere else."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from pathlib import Path

from harness.commands.say import say
from harness.control.client import NotRunning, line_to
from harness.control.server import PIECE
from harness.errors import HarnessError, UsageError
from harness.store import Store, home

HERE = "127.0.0.1"
MAX_AT_ONCE = 48
"""Connections carried together; one more is closed."""


def port(reference: str, said: str) -> int:
    inside, outside = _ports(said)
    directory = Store(home()).session(reference)
    return asyncio.run(_forward(directory, inside, outside))


def _ports(said: str) -> tuple[int, int]:
    """PORT, or PORT:LOCAL; the same number here when none is said, any free one for 0."""
    inside, _, outside = said.partition(":")
    numbers = [part for part in (inside, outside or inside) if part.isascii() and part.isdigit()]
    if len(numbers) != 2 or not 1 <= int(numbers[0]) <= 65_535 or int(numbers[1]) > 65_535:
        raise UsageError(f"{said!r}: give a port of the session, or PORT:LOCAL, e.g. 3000 or 3000:8080")
    return int(numbers[0]), int(numbers[1])


async def _forward(directory: Path, inside: int, outside: int) -> int:
    """Until Ctrl-C, or until the session ends."""
    async with line_to(directory) as line:
        carried: set[asyncio.Task[None]] = set()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            if len(carried) >= MAX_AT_ONCE:
                writer.transport.abort()
                return
            carried.add(task)
            try:
                await _carry(directory, inside, reader, writer)
            finally:
                carried.discard(task)
                writer.close()

        try:
            server = await asyncio.start_server(serve, HERE, outside)
        except OSError as exc:
            raise UsageError(
                f"{HERE}:{outside} cannot be listened on ({exc.strerror}); say another: port … {inside}:LOCAL"
            ) from exc
        async with server:
            number = server.sockets[0].getsockname()[1]
            say(f"http://{HERE}:{number} leads to port {inside} of session {directory.name}; Ctrl-C ends it")
            line.writer.write(b'{"op": "wait"}\n')
            await _until_the_end(line.reader)
            server.close()
            for task in list(carried):
                task.cancel()
            if carried:
                await asyncio.wait(list(carried))
    return 0


async def _until_the_end(session: asyncio.StreamReader) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    pressed = asyncio.ensure_future(stop.wait())
    ended = asyncio.ensure_future(session.read())
    try:
        await asyncio.wait([pressed, ended], return_when=asyncio.FIRST_COMPLETED)
        if not pressed.done():
            say("the session has ended")
    finally:
        for waiting in (pressed, ended):
            waiting.cancel()
        await asyncio.gather(pressed, ended, return_exceptions=True)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.remove_signal_handler(number)


async def _carry(
    directory: Path, inside: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """One connection, to its end, both ways."""
    try:
        async with line_to(directory) as line:
            await line.ask(op="connect", port=inside)
            async with asyncio.TaskGroup() as both:
                both.create_task(_pump(reader, line.writer))
                both.create_task(_pump(line.reader, writer))
    except* (NotRunning, HarnessError) as errors:
        say(str(errors.exceptions[0]), error=True)
    except* OSError:
        pass  # One side broke off, and the other goes with it.


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(PIECE):
        writer.write(data)
        await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof()
