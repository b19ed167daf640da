"""The approval prompt (sudo's question), at the session's own terminal: a `Prompter`.

On a terminal that can, a question has the alternate screen to itself; on one that cannot, it is printed in
lines. Either way every row begins with a mark that was drawn by lot and shown when the session began, which
nobody inside can know. Questions wait for each other, and nothing else is written while one stands.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import secrets
import struct
import termios
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, TextIO

from harness.approvals.petition import Petition, Reply, Scope
from harness.screen.approval_keys import Choice, Keys
from harness.screen.approval_screen import (
    MIN_COLUMNS,
    MIN_ROWS,
    Document,
    Page,
    body_columns,
    document,
    framed,
    page,
)
from harness.visible import visible

TICK_S = 0.05
"""Between two looks at the clock and at the terminal's size."""
FOREGROUND_S = 0.25
SPARE_S = 5.0
PIECE_BYTES = 4096
PIECES = 64
CAN = {
    "alternate": "\x1b[?1049h\x1b[?7l\x1b[?25l\x1b[?2004h",
    "back": "\x1b[?2004l\x1b[?25h\x1b[?7h\x1b[?1049l",
}
"""The alternate screen, no wrapping, no cursor, and pastes that say that they are; and all of it undone."""
CLEAR = "\x1b[2J\x1b[H"
WORDS: dict[Scope, str] = {
    "once": "y yes, once",
    "session": "s for the session",
    "minutes": "m for 15 minutes",
    "always": "a always",
}


class Stage(Protocol):
    """What else writes to the terminal."""

    def pause(self) -> None:
        """Write nothing until `resume`; keep what there is to say."""

    def resume(self) -> None: ...


def new_mark() -> str:
    """Short enough to be compared by eye, and not to be guessed."""
    return secrets.token_hex(2)


class TerminalPrompter:
    """Asks at a terminal, one question at a time. Each leaves the terminal as it found it."""

    def __init__(
        self,
        keyboard: int,
        out: TextIO,
        stage: Stage,
        mark: str,
        *,
        environ: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`keyboard` is the descriptor of a terminal, and so is what `out` writes to."""
        self._keyboard = keyboard
        self._out = out
        self._stage = stage
        self._mark = mark
        self._plain = environ.get("TERM", "dumb") in {"dumb", "unknown", ""}
        self._clock = clock
        self._turn = asyncio.Lock()

    async def ask(self, petition: Petition, *, deadline_s: float) -> Reply:
        async with self._turn:
            self._stage.pause()
            try:
                # Whoever asks looks at the clock; here it is only made sure that nothing stands for ever.
                async with asyncio.timeout(deadline_s + SPARE_S):
                    await self._in_front()
                    with self._terminal() as pieces:
                        return await self._asked(petition, pieces)
            except BaseException:
                name = visible(petition.name)
                self._write(
                    f"{self._mark} question {name} is gone: answered elsewhere, or its time is over\n"
                )
                raise
            finally:
                self._stage.resume()

    async def _in_front(self) -> None:
        """In the background a process that touches its terminal is stopped, and nobody sees what it asks."""
        with contextlib.suppress(OSError):  # not our controlling terminal: then nobody stops us
            while os.tcgetpgrp(self._keyboard) != os.getpgrp():  # noqa: ASYNC110 - the kernel has no word for it
                await asyncio.sleep(FOREGROUND_S)

    async def _asked(self, petition: Petition, pieces: asyncio.Queue[bytes]) -> Reply:
        sheet = _Sheet(petition, self._mark, self._size())
        choice = Choice(petition.offers, 0.0)
        choice.rearm(self._clock())
        keys = Keys()
        painted = None
        while choice.reply is None:
            sheet.fit(self._size(), lambda: choice.rearm(self._clock()))
            rows = sheet.rows(choice)
            if rows != painted:
                self._paint(rows)
                painted = rows
            try:
                async with asyncio.timeout(TICK_S):
                    data = await pieces.get()
            except TimeoutError:
                pressed = list(keys.tick(self._clock()))
            else:
                pressed = list(keys.feed(data, self._clock())) if data else ["now"]
            for key in pressed:
                if sheet.too_small and key not in ("no", "now"):
                    choice.rearm(self._clock())
                    continue
                choice.press(key, self._clock())
                sheet.turn(key)
            choice.tick(self._clock())
        return choice.reply

    def _paint(self, rows: list[str]) -> None:
        if self._plain:
            self._write("\n" + "\n".join(rows) + "\n")
        else:
            self._write(CLEAR + "\r\n".join(rows))

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError):  # a terminal that is gone is an answer: its keys end, too
            self._out.write(text)
            self._out.flush()

    def _size(self) -> tuple[int, int]:
        """Columns and rows; a terminal that does not know has 80 × 24."""
        try:
            packed = fcntl.ioctl(self._keyboard, termios.TIOCGWINSZ, b"\0" * 8)
        except OSError:
            return 80, 24
        rows, columns, _, _ = struct.unpack("HHHH", packed)
        return columns or 80, rows or 24

    @contextlib.contextmanager
    def _terminal(self) -> Iterator[asyncio.Queue[bytes]]:
        """Keys as they are pressed, from now on: what was typed before is thrown away. b"" is the end."""
        pieces: asyncio.Queue[bytes] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def ready() -> None:
            try:
                data = os.read(self._keyboard, PIECE_BYTES)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                data = b""
            if not data:
                loop.remove_reader(self._keyboard)
            if not data or pieces.qsize() < PIECES:
                pieces.put_nowait(data)

        before = termios.tcgetattr(self._keyboard)
        now = termios.tcgetattr(self._keyboard)
        now[3] &= ~(termios.ICANON | termios.ECHO | termios.ISIG | termios.IEXTEN)
        now[6][termios.VMIN], now[6][termios.VTIME] = 1, 0
        if not self._plain:
            self._write(CAN["alternate"])
        try:
            termios.tcsetattr(self._keyboard, termios.TCSAFLUSH, now)
            termios.tcflush(self._keyboard, termios.TCIFLUSH)
            loop.add_reader(self._keyboard, ready)
            yield pieces
        finally:
            loop.remove_reader(self._keyboard)
            with contextlib.suppress(termios.error):
                termios.tcsetattr(self._keyboard, termios.TCSAFLUSH, before)
            if not self._plain:
                self._write(CAN["back"])


@dataclass
class _Sheet:
    """A petition on a terminal of some size: which page of it, and what has been seen."""

    petition: Petition
    mark: str
    size: tuple[int, int]

    def __post_init__(self) -> None:
        self.seen_end = False
        self._lay_out()

    def _lay_out(self) -> None:
        columns, rows = self.size
        self.too_small = columns < MIN_COLUMNS or rows < MIN_ROWS
        self.text: Document = document(self.petition, body_columns(self.mark, max(columns, MIN_COLUMNS)))
        self._tops = [0]
        self._page: Page | None = None

    def fit(self, size: tuple[int, int], redrawn: Callable[[], None]) -> None:
        if size != self.size:
            self.size = size
            self._lay_out()
            redrawn()

    def rows(self, choice: Choice) -> list[str]:
        columns, height = self.size
        if self.too_small:
            return [text[: max(columns - 1, 0)] for text in (f"{self.mark} too small", f"{self.mark} to ask")]
        for _ in range(
            2
        ):  # what was seen whole may be answered more widely, and the foot says that in more rows
            used = len(framed(self.mark, "", (), self._foot(choice), columns))
            self._page = page(self.text, self._tops[-1], max(1, height - used))
            self.seen_end = self.seen_end or self._page.whole
            choice.wider = self.seen_end and not self.text.flagged
        assert self._page is not None
        return framed(self.mark, self.petition.name, self._page.rows, self._foot(choice), columns)

    def _foot(self, choice: Choice) -> tuple[str, ...]:
        if choice.confirming is not None:
            return (f"Yes, {WORDS[choice.confirming][2:]}?", "y confirms, Enter no")
        keys = ", ".join([*(WORDS[scope] for scope in choice.allowed()), "Enter no"])
        if self.text.flagged and len(choice.offers) > 1:
            return (keys, "It holds what does not show itself: only once.")
        if not choice.wider and len(choice.offers) > 1:
            return (keys, "More after the last page: space, b.")
        return (keys,)

    def turn(self, key: str) -> None:
        if self._page is None:
            return
        if key == "next" and not self._page.whole:
            self._tops.append(self._page.last)
        elif key == "back" and len(self._tops) > 1:
            self._tops.pop()
        elif key == "top":
            self._tops = [0]
        elif key == "end":
            _, height = self.size
            last = max(0, len(self.text.rows) - max(1, height - 6))
            if last > self._tops[-1]:
                self._tops.append(last)
