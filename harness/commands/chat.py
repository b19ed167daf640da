"""`usermode chat`: a session that stays, and one line after the other said to it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Protocol

from harness.approvals.petition import Petition, Prompter, Reply
from harness.boot.resume import ResumeOptions
from harness.boot.resume import resume as go_on
from harness.boot.start import run as begin
from harness.commands.place import Place
from harness.commands.run import Watch, begun, shown
from harness.control.desk import Desk, Talk
from harness.errors import JournalError, UsageError
from harness.events import CallIntent, Event, Notice, PromptQueued, SessionEnded
from harness.process.interrupt import Interrupt
from harness.screen.approval_prompt import TerminalPrompter, new_mark
from harness.screen.console import Screen, View, is_live, open_view
from harness.screen.editor import Editor
from harness.screen.jsonl import JsonView
from harness.screen.lines import Line, lines
from harness.screen.typed import Lines
from harness.store import Store, home
from harness.words import bounded

HELP = (
    "/next TEXT after this turn · /steer TEXT before the next request · /queue · /drop NAME · "
    "/cancel [CALL] · /quit · //TEXT says /TEXT"
)
HERE = "terminal"


class Source(Protocol):
    """Where lines come from; `lent` leaves the terminal to somebody else for a while."""

    async def line(self) -> str | None: ...
    def lent(self) -> AbstractAsyncContextManager[None]: ...


def chat(place: Place, model: str, *, base_url: str | None, json: bool) -> int:
    options = begun(place, model, base_url)

    async def start(watch: Watch, prompter: Prompter | None, talk: Talk) -> SessionEnded:
        return await begin(replace(options, prompter=prompter, talk=talk), watch, watch.interrupt)

    return _attended(start, json)


def resume(reference: str, model: str, *, new: bool, base_url: str | None, json: bool) -> int:
    """`new` says that options of a new session were given: nothing of them is decided anew."""
    if new:
        raise UsageError(
            "--resume goes on with a session as it was begun: leave out the directory, the policy, the image "
            "and the limits"
        )
    session = Store(home()).session(reference).name

    async def start(watch: Watch, prompter: Prompter | None, talk: Talk) -> SessionEnded:
        watch.session = session
        options = ResumeOptions(session, "", model, base_url=base_url, prompter=prompter, talk=talk)
        return await go_on(options, watch, watch.interrupt)

    return _attended(start, json)


Start = Callable[[Watch, Prompter | None, Talk], Awaitable[SessionEnded]]


def _attended(start: Start, json: bool) -> int:
    """A chat at this terminal, or one whose lines come from elsewhere; its exit code."""
    keyboard = _keyboard()
    talker = Talker(piped=not os.isatty(keyboard))
    attended = not json and os.isatty(keyboard) and sys.stdout.isatty()
    screen: Screen | None = None
    if attended and is_live(sys.stdout):
        screen = editor = Editor(sys.stdout, talker.render, talker.press)
        talker.source = editor
    else:
        talker.source = Lines(keyboard)
        if not json:
            screen = open_view(sys.stdout, {})
    view: View = screen or JsonView(sys.stdout)
    prompter = None
    if attended and screen is not None:
        mark = new_mark()
        asked = TerminalPrompter(keyboard, sys.stdout, screen, mark)
        prompter = Sharing(asked, talker.source)
        marked = f"questions to you begin with {mark}, and only they do; /help lists commands"
        view(Notice(level="info", code="mark", text=marked))
    watch = talker.watch = Watch(view, Interrupt(), quiet=json)
    watch.stop = talker.leave

    async def run() -> SessionEnded:
        return await start(watch, prompter, talker)

    code = shown(run(), watch, (talker.stop, talker.leave), json)
    if not json and watch.session:
        watch.tell(f"go on with it: usermode chat --resume {watch.session}")
    return code


def _keyboard() -> int:
    """The descriptor of standard input; one at its end where there is none."""
    try:
        return sys.stdin.fileno() if sys.stdin is not None else os.open(os.devnull, os.O_RDONLY)
    except (OSError, ValueError):
        return os.open(os.devnull, os.O_RDONLY)


class Sharing:
    """A prompter that has the terminal to itself for as long as its question stands."""

    def __init__(self, inner: Prompter, source: Source) -> None:
        self._inner, self._source = inner, source
        self._turn = asyncio.Lock()

    async def ask(self, petition: Petition, *, deadline_s: float) -> Reply:
        async with self._turn, self._source.lent():
            return await self._inner.ask(petition, deadline_s=deadline_s)


class Talker:
    """The user of a chat: what their lines and their Ctrl-C mean."""

    source: Source
    watch: Watch

    def __init__(self, *, piped: bool) -> None:
        self._piped = piped
        self._desk: Desk | None = None

    async def __call__(self, desk: Desk) -> None:
        self._desk = desk
        while not desk.left and (line := await self.source.line()) is not None:
            try:
                await self._take(desk, line.strip())
            except (UsageError, JournalError) as exc:
                # Not on the disk, so not taken; what that means for the session, it finds by itself.
                self.watch.tell(f"not done: {exc}")
            if self._piped:
                await desk.room()

    async def _take(self, desk: Desk, line: str) -> None:
        if not line:
            return
        self.watch.calm()
        if not line.startswith("/") or line.startswith("//"):
            # Lines of a file are tasks, one after the other; who types while it works means that.
            await desk.say(line.removeprefix("/"), "turn" if self._piped else "request", HERE)
            return
        word, _, rest = line.partition(" ")
        command = COMMANDS.get(word)
        if command is None:
            raise UsageError(f"there is no {word}: {HELP}")
        await command(self, desk, rest.strip())

    async def next(self, desk: Desk, text: str) -> None:
        await desk.say(text, "turn", HERE)

    async def steer(self, desk: Desk, text: str) -> None:
        await desk.say(text, "request", HERE)

    async def drop(self, desk: Desk, name: str) -> None:
        if not await desk.drop(name, HERE):
            raise UsageError(f"no prompt {name} waits")

    async def queue(self, desk: Desk, rest: str) -> None:
        waiting = [f"{one.name} ({one.when}): {bounded(one.text, 160)}" for one in desk.inbox.waiting]
        for line in waiting or ["nothing waits"]:
            self.watch.tell(line)

    async def cancel(self, desk: Desk, call: str) -> None:
        calls = desk.calls
        if not call and len(calls) == 1:
            [call] = calls
        if not call or not desk.cancel_call(call):
            raise UsageError(f"say which call: {', '.join(calls)}" if calls else "no call is under way")

    async def quit(self, desk: Desk, rest: str) -> None:
        desk.leave()

    async def help(self, desk: Desk, rest: str) -> None:
        self.watch.tell(HELP)

    def press(self) -> None:
        """Ctrl-C, where the terminal makes no signal of it."""
        self.watch.press()

    def stop(self) -> None:
        """The first Ctrl-C."""
        if self._desk is None:
            self.watch.interrupt.cancel_turn()
        elif self._desk.cancel_turn():
            self.watch.tell("stopping the turn; Ctrl-C again leaves")
        else:
            self.watch.tell("Ctrl-C again leaves")

    def leave(self) -> None:
        """The second one, or nobody reads what is shown any more."""
        if self._desk is None:
            self.watch.interrupt.cancel_turn()
        else:
            self._desk.leave()

    def render(self, event: Event) -> Iterator[Line]:
        """Calls with the name by which they can be cancelled; what is read at once is not announced."""
        if isinstance(event, PromptQueued) and not (self._desk and self._desk.busy):
            return
        for number, line in enumerate(lines(event)):
            if isinstance(event, CallIntent) and number == 0:
                line = Line(line.tone, f"{line.text}  [{bounded(event.call.id, 60)}]")
            yield line


COMMANDS: Mapping[str, Callable[[Talker, Desk, str], Awaitable[None]]] = {
    "/next": Talker.next,
    "/steer": Talker.steer,
    "/queue": Talker.queue,
    "/drop": Talker.drop,
    "/cancel": Talker.cancel,
    "/quit": Talker.quit,
    "/help": Talker.help,
}
