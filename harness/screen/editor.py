"""The line editor of a chat: the user's line at the bottom of the terminal, and what happens above it.

A question to the user takes the whole terminal (`lent`): meanwhile nothing is read or written here, and what
stands in the line afterwards is what stood there before.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import TextIO

from prompt_toolkit import PromptSession
from prompt_toolkit.application.run_in_terminal import in_terminal
from prompt_toolkit.data_structures import Size
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output.vt100 import Vt100_Output

from harness.events import Event
from harness.screen.lines import Line

PROMPT = "> "


def _size(fd: int) -> Size:
    """Of the terminal; 80 × 24 where it does not know."""
    try:
        columns, rows = os.get_terminal_size(fd)
    except OSError:
        columns = rows = 0
    return Size(rows=rows or 24, columns=columns or 80)


class Editor:
    """A screen, and the source of the lines typed at it. Use it in one event loop."""

    def __init__(
        self, out: TextIO, render: Callable[[Event], Iterable[Line]], on_interrupt: Callable[[], None]
    ) -> None:
        """`on_interrupt` is Ctrl-C: in this mode the terminal makes no signal of it."""
        self._out = out
        self._render = render
        self._kept: list[str] = []
        self._lent = False
        self._paused = False
        self._free = asyncio.Event()
        self._free.set()
        self._printing: asyncio.Task[None] | None = None
        keys = KeyBindings()

        @keys.add("c-c")
        def _(event: KeyPressEvent) -> None:
            on_interrupt()

        # It asks the terminal nothing: an answer could be taken for something typed.
        term = os.environ.get("TERM")
        output = Vt100_Output(out, partial(_size, out.fileno()), term=term, enable_cpr=False)
        self._session: PromptSession[str] = PromptSession(
            PROMPT,
            output=output,
            key_bindings=keys,
            erase_when_done=True,
            reserve_space_for_menu=0,
            enable_suspend=True,
        )

    async def line(self) -> str | None:
        """What the user typed until Enter; a paste is one line, whatever is in it. None after Ctrl-D."""
        await self._free.wait()
        try:
            return await self._session.prompt_async(handle_sigint=False, set_exception_handler=False)
        except (EOFError, OSError):
            return None  # Ctrl-D, or the terminal has gone.

    def __call__(self, event: Event) -> None:
        self._kept += [line.text + "\n" for line in self._render(event)]
        self._print()

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        self._print()

    @asynccontextmanager
    async def lent(self) -> AsyncIterator[None]:
        """Somebody else has the terminal while the block runs."""
        self._free.clear()
        try:
            async with in_terminal():
                self._lent = True
                try:
                    yield
                finally:
                    self._lent = False
        finally:
            self._free.set()
            self._print()

    def close(self) -> None:
        self._paused = False
        self._write()

    def _print(self) -> None:
        if self._paused or not self._kept:
            return
        if self._lent or not self._session.app.is_running:
            self._write()
        elif self._printing is None or self._printing.done():
            self._printing = asyncio.ensure_future(self._above())

    async def _above(self) -> None:
        """Print over the line that is being typed."""
        async with in_terminal():
            if not self._paused:
                self._write()

    def _write(self) -> None:
        texts, self._kept = self._kept, []
        self._out.writelines(texts)
        self._out.flush()
