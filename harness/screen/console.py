"""The screen of a session: a live view on a terminal, plain lines everywhere else.

Both are subscribers of events. On a terminal what has happened scrolls by for good, and below it stands what
is happening: the model's sentence as it comes, running calls with their last lines, the budget. Text from the
model or the container arrives escaped (`harness.screen.lines`) and enters rich as `Text`, never as markup.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from harness.events import (
    BudgetChanged,
    CallIntent,
    CallOutcome,
    CallOutput,
    CallStarted,
    Event,
    MessageAdded,
    SandboxOpened,
    SessionEnded,
    TextStreamed,
)
from harness.messages import Call
from harness.screen.lines import Tone, lines
from harness.words import amount, clean_lines, duration, summary

REFRESHES_PER_S = 8
FRAME_LINES = 16
"""Most lines of the live part, on a terminal that has room for them."""
STREAMED_KEPT = 4000
"""Characters of a message being streamed that are kept for showing; all of it is printed when it is whole."""
STYLES: Mapping[Tone, str] = {
    "head": "dim",
    "text": "",
    "call": "bold cyan",
    "output": "dim",
    "error": "red",
    "notice": "yellow",
    "end": "bold",
}


class View(Protocol):
    """A subscriber with an end: `close` puts the terminal back and may be called twice."""

    def __call__(self, event: Event) -> None: ...
    def close(self) -> None: ...


class Screen(View, Protocol):
    """A view that can hold back while a question has the terminal: between `pause` and `resume` it writes
    nothing, and keeps what there is to say."""

    def pause(self) -> None: ...
    def resume(self) -> None: ...


def is_live(out: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    """A terminal that can move its cursor. NO_COLOR takes the colours away, not the view."""
    return out.isatty() and environ.get("TERM", "dumb") not in {"dumb", "unknown", ""}


def open_view(out: TextIO, environ: Mapping[str, str] = os.environ) -> Screen:
    return LiveView(out, environ) if is_live(out, environ) else PlainView(out)


class PlainView:
    """A line when something has happened; no colours, no cursor."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._kept: list[str] | None = None

    def __call__(self, event: Event) -> None:
        texts = [line.text + "\n" for line in lines(event)]
        if self._kept is not None:
            self._kept += texts
            return
        self._out.writelines(texts)
        self._out.flush()

    def pause(self) -> None:
        self._kept = [] if self._kept is None else self._kept

    def resume(self) -> None:
        texts, self._kept = self._kept or [], None
        self._out.writelines(texts)
        self._out.flush()

    def close(self) -> None:
        """Nothing to put back."""


@dataclass
class _Running:
    call: Call
    since: float
    tail: str = ""
    total_bytes: int = 0


class LiveView:
    def __init__(
        self,
        out: TextIO,
        environ: Mapping[str, str] = os.environ,
        *,
        size: tuple[int, int] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        width, height = size or (None, None)
        self._console = Console(
            file=out,
            force_terminal=True,
            no_color="NO_COLOR" in environ,
            highlight=False,
            markup=False,
            emoji=False,
            width=width,
            height=height,
            legacy_windows=False,
        )
        self._clock = clock
        self._streamed = ""
        self._thinking = False
        self._running: dict[str, _Running] = {}
        self._budget: BudgetChanged | None = None
        self._open = False
        self._began = clock()
        self._kept: list[Text] | None = None
        self._closed = False
        self._live = Live(
            console=self._console,
            get_renderable=self.frame,
            refresh_per_second=REFRESHES_PER_S,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        )
        self._live.start()

    def __call__(self, event: Event) -> None:
        self._note(event)
        texts = [Text(line.text, style=STYLES[line.tone]) for line in lines(event)]
        if self._kept is None:
            self._print(texts)
        else:
            self._kept += texts
        if isinstance(event, SessionEnded):
            self.close()

    def pause(self) -> None:
        if self._kept is None:
            self._kept = []
            self._live.stop()

    def resume(self) -> None:
        texts, self._kept = self._kept or [], None
        self._print(texts)
        if not self._closed:
            self._live.start()

    def close(self) -> None:
        self._closed = True
        self._live.stop()

    def _print(self, texts: list[Text]) -> None:
        for text in texts:
            self._console.print(text, soft_wrap=False)

    def _note(self, event: Event) -> None:
        match event:
            case SandboxOpened():
                self._open = True
            case TextStreamed():
                self._thinking = event.thinking
                if not event.thinking:
                    self._streamed = (self._streamed + event.text)[-STREAMED_KEPT:]
            case MessageAdded():
                self._streamed, self._thinking = "", False
            case CallIntent() | CallStarted():
                self._running.setdefault(event.call.id, _Running(event.call, self._clock()))
            case CallOutput() if (running := self._running.get(event.call_id)) is not None:
                running.tail, running.total_bytes = event.tail, event.total_bytes
            case CallOutcome():
                self._running.pop(event.result.call_id, None)
            case BudgetChanged():
                self._budget = event

    def frame(self) -> Group:
        """The live part, never taller than the terminal less one line for the prompt that follows."""
        room = max(2, min(FRAME_LINES, self._console.height - 2))
        rows = [*self._streaming(room // 2), *self._calls(room - 1)]
        return Group(*rows[-(room - 1) :], self._status())

    def _streaming(self, room: int) -> list[Text]:
        if not self._open:
            return [_row("starting the sandbox…", "dim italic")]
        if self._thinking:
            return [_row("thinking…", "dim italic")]
        if not self._streamed.strip():
            return []
        shown = [_row(line) for line in clean_lines(self._streamed.strip("\n"))]
        return shown[-max(1, room) :]

    def _calls(self, room: int) -> list[Text]:
        running = list(self._running.values())
        each = max(0, min(4, room // len(running) - 1)) if running else 0
        rows: list[Text] = []
        for one in running[:room]:
            took = duration(self._clock() - one.since)
            more = f" · {amount(one.total_bytes, 'B')}" if one.total_bytes else ""
            rows.append(_row(f"● {took}{more}  {summary(one.call)}", "cyan"))
            tail = clean_lines(one.tail.rstrip("\n")) if one.tail and each else []
            rows += [_row(f"  | {line}", "dim") for line in tail[-each:]]
        return rows

    def _status(self) -> Text:
        elapsed = duration(self._clock() - self._began)
        if self._budget is None:
            return _row(f"{elapsed} · Ctrl-C stops", "reverse")
        cost = "" if self._budget.cost_usd is None else f" · ${self._budget.cost_usd:.2f}"
        spent = f"turn {self._budget.turns} · {amount(self._budget.tokens)} tokens{cost}"
        return _row(f"{spent} · {elapsed} · Ctrl-C stops", "reverse")


def _row(text: str, style: str = "") -> Text:
    """One terminal line: cut at the edge, never wrapped."""
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")
