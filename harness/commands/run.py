"""`usermode run`: a task in a contained session, watched and interruptible."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace

from harness.approvals.petition import Prompter
from harness.boot.parts import RunOptions
from harness.boot.start import run as boot
from harness.commands.place import Place
from harness.commands.say import say
from harness.errors import UsageError
from harness.events import Event, Notice, SessionEnded, SessionStarted
from harness.exits import CLOSED_PIPE, INTERRUPTED
from harness.process.interrupt import Interrupt
from harness.screen.approval_prompt import TerminalPrompter, new_mark
from harness.screen.console import View, open_view
from harness.screen.jsonl import JsonView

TASK_BYTES = 1 << 20
"""Longest task read from standard input."""
CUT_SHORT = ("provider", "sandbox", "journal", "interrupted")
"""Ends after which `resume` goes on without being told what to do."""
MODEL = "USERMODE_MODEL"
"""The variable that names the model where the command line does not."""


def run(task: str, model: str, place: Place, *, base_url: str | None, json: bool) -> int:
    options = begun(place, model, base_url, _task(task))
    return attended(
        lambda watch, prompter: boot(replace(options, prompter=prompter), watch, watch.interrupt), json
    )


def begun(place: Place, model: str, base_url: str | None, task: str = "") -> RunOptions:
    """What begins in this place. UsageError where no model is named."""
    model = model or os.environ.get(MODEL, "")
    if not model:
        raise UsageError(f"no model: say --model provider:model or set {MODEL} (see `usermode run --help`)")
    return RunOptions(
        task=task,
        model=model,
        policy=place.policy,
        workspace=place.directory,
        image=place.image,
        runtime=place.runtime,
        base_url=base_url,
        typed=place.typed,
    )


def attended(
    start: Callable[[Watch, Prompter | None], Coroutine[None, None, SessionEnded]], json: bool
) -> int:
    """A session shown, and steered by signals; its exit code."""
    view: View = JsonView(sys.stdout)
    prompter = None
    if not json:
        view = screen = open_view(sys.stdout)
        if sys.stdin.isatty() and sys.stdout.isatty():
            mark = new_mark()
            prompter = TerminalPrompter(sys.stdin.fileno(), sys.stdout, screen, mark)
            view(
                Notice(
                    level="info", code="mark", text=f"questions to you begin with {mark}, and only they do"
                )
            )
    watch = Watch(view, Interrupt(), quiet=json)
    code = shown(start(watch, prompter), watch, (watch.stop_turn,), json)
    if not json and watch.ended in CUT_SHORT:
        say(f"go on with it: usermode resume {watch.session}")
    return code


def shown(
    running: Coroutine[None, None, SessionEnded],
    watch: Watch,
    steps: Sequence[Callable[[], None]],
    json: bool,
) -> int:
    """The same, with what each Ctrl-C does before one leaves at once."""
    try:
        ended = asyncio.run(_attended(running, watch, steps))
    finally:
        watch.close()
    if watch.lost:
        return CLOSED_PIPE
    if ended is None:
        return INTERRUPTED
    if not json and ended.changes and watch.session:
        say(f"review them: usermode diff {watch.session}")
        say(f"accept them: usermode apply {watch.session}")
    return ended.exit_code


def _task(said: str) -> str:
    text = sys.stdin.buffer.read(TASK_BYTES + 1) if said == "-" else said.encode(errors="surrogateescape")
    if len(text) > TASK_BYTES:
        raise UsageError(
            f"the task is longer than {TASK_BYTES >> 10} KiB; put it into a file of the workspace"
        )
    task = text.decode(errors="replace").strip()
    if not task:
        raise UsageError("the task is empty")
    return task


class Watch:
    """Hands events to the view. A view that can no longer be written to ends the session in good order."""

    def __init__(self, view: View, interrupt: Interrupt, *, quiet: bool) -> None:
        self.interrupt = interrupt
        self._quiet = quiet
        self.session: str | None = None
        """Its id, once it is known."""
        self.ended = ""
        """The status of its end."""
        self.lost = False
        self.stop: Callable[[], object] = interrupt.cancel_turn
        """Ends the session in good order."""
        self.press: Callable[[], None] = lambda: None
        """As Ctrl-C does."""
        self.calm: Callable[[], None] = lambda: None
        """The next Ctrl-C is the first again."""
        self._view = view

    def __call__(self, event: Event) -> None:
        if isinstance(event, SessionStarted):
            self.session = event.session
        if isinstance(event, SessionEnded):
            self.ended = event.status
        if self.lost:
            return
        try:
            self._view(event)
        except OSError:
            # A pipe without a reader, a terminal that was closed, a file on a full disk.
            self._lose()
            self.stop()

    def close(self) -> None:
        """No more is shown."""
        try:
            self._view.close()
        except OSError:
            self._lose()

    def _lose(self) -> None:
        self.lost = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def stop_turn(self) -> None:
        self.tell("stopping the turn; Ctrl-C again leaves at once")
        self.interrupt.cancel_turn()

    def tell(self, text: str) -> None:
        """Say something that is no part of the session: never between the events a program reads."""
        if self._quiet:
            say(text, error=True)
        else:
            self(Notice(level="info", code="interrupt", text=text))


async def _attended(
    running: Coroutine[None, None, SessionEnded], watch: Watch, steps: Sequence[Callable[[], None]]
) -> SessionEnded | None:
    """The session under the user's signals; None when it was left at once."""
    loop = asyncio.get_running_loop()
    session = asyncio.ensure_future(running)
    signals = _Signals(loop, steps, session.cancel)
    watch.press, watch.calm = signals.press, signals.calm
    with signals:
        try:
            return await session
        except asyncio.CancelledError:
            if not session.cancelled():
                raise
            return None


class _Signals:
    """Each Ctrl-C takes the next of the steps; after them, or with SIGTERM or SIGHUP, one leaves at once, and
    one more does not even wait.

    Leaving still removes the container: the session's task is cancelled and cleans up as it unwinds.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        steps: Sequence[Callable[[], None]],
        leave: Callable[[], object],
    ) -> None:
        self._loop, self._steps, self._leave = loop, steps, leave
        self._pressed = 0

    def __enter__(self) -> None:
        self._loop.add_signal_handler(signal.SIGINT, self.press)
        self._loop.add_signal_handler(signal.SIGTERM, self._end)
        self._loop.add_signal_handler(signal.SIGHUP, self._hung_up)

    def __exit__(self, *exc_info: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._loop.remove_signal_handler(number)

    def press(self) -> None:
        if self._pressed < len(self._steps):
            self._pressed += 1
            self._steps[self._pressed - 1]()
        else:
            self._end()

    def calm(self) -> None:
        self._pressed = 0

    def _hung_up(self) -> None:
        # Of a terminal that is closed the shell tells, and the kernel once more: nobody is impatient.
        if self._pressed <= len(self._steps):
            self._end()

    def _end(self) -> None:
        if self._pressed > len(self._steps):
            os._exit(INTERRUPTED)
        self._pressed = len(self._steps) + 1
        self._leave()
