"""The user's terminal joined to a process inside a sandbox, for an interactive shell.

The terminal is put into raw mode, so that keys reach the process; what comes back passes
`harness.screen.terminal`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import termios
import tty
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from harness.screen.terminal import Filter
from sandbox.protocol import Process

LEAVE = b"\x1d\x1d"
"""Ctrl-] twice: out of a shell that no longer answers. No other key is kept from the guest."""


async def bridge(process: Process, keys: int, screen: int) -> None:
    """Carry keys in, output out and the window's size, until the shell ends or the user leaves."""
    loop = asyncio.get_running_loop()
    resized = asyncio.Event()
    loop.add_signal_handler(signal.SIGWINCH, resized.set)
    tasks = [asyncio.ensure_future(work) for work in (_show(process, screen), _type(process, keys))]
    sizes = asyncio.ensure_future(_resize(process, screen, resized))
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        loop.remove_signal_handler(signal.SIGWINCH)
        for task in (*tasks, sizes):
            task.cancel()
        await asyncio.gather(*tasks, sizes, return_exceptions=True)


async def _show(process: Process, screen: int) -> None:
    shown = Filter()
    async for chunk in process:
        # In a thread: a terminal that stands still must not stop the wire.
        await asyncio.to_thread(_write_all, screen, shown.feed(chunk.data))


async def _type(process: Process, keys: int) -> None:
    before = b""
    async for typed in _typed(keys):
        if LEAVE in before + typed:
            return
        before = typed[-1:]
        try:
            await process.send(typed)
        except BrokenPipeError:
            # The shell is ending; its last output is still to come, and ends the bridge.
            await asyncio.Event().wait()


async def _resize(process: Process, screen: int, resized: asyncio.Event) -> None:
    while True:
        await resized.wait()
        resized.clear()
        size = window_size(screen)
        await process.resize(size.lines, size.columns)


def window_size(screen: int) -> os.terminal_size:
    """Of the terminal itself: LINES and COLUMNS of the environment are a wish, or of another one."""
    size = os.get_terminal_size(screen)
    return size if size.lines and size.columns else os.terminal_size((80, 24))


async def _typed(keys: int) -> AsyncIterator[bytes]:
    """What is typed, as it is typed; read only when the one before was taken, so that nothing piles up."""
    loop = asyncio.get_running_loop()
    while True:
        ready = asyncio.Event()
        loop.add_reader(keys, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(keys)
        typed = os.read(keys, 4096)
        if not typed:
            return
        yield typed


@contextmanager
def raw(keys: int, screen: int) -> Iterator[None]:
    before = termios.tcgetattr(keys)
    tty.setraw(keys)
    try:
        yield
    finally:
        _write_all(screen, Filter.RESET + b"\r\n")
        # Flushing drops what was typed ahead: it was meant for the guest, not for the user's own shell.
        termios.tcsetattr(keys, termios.TCSAFLUSH, before)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
