"""The desk: what a user may do to a running session, from whichever of their terminals.

They say something (it is acknowledged once it is on the disk), take back what the model has not read yet,
cancel one call or the turn, or leave. Everything happens on the event loop's thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

from harness.errors import JournalError, UsageError
from harness.events import PromptDropped
from harness.inbox import MAX_WAITING, Inbox, When
from harness.process.interrupt import Interrupt
from harness.process.recorder import Recorder

PROMPT_BYTES = 1 << 20
"""Of one prompt."""


class Desk:
    def __init__(
        self, inbox: Inbox, recorder: Recorder, interrupt: Interrupt, *, attended: bool = False
    ) -> None:
        self.attended = attended
        """Somebody sits here and says what to do."""
        self.stays = attended
        """They may say more: then the session waits for it instead of ending."""
        self.left = False
        """The user wants to go: nothing more is begun."""
        self.busy = False
        """A turn is under way."""
        self.held = False
        """What waits is not begun by itself, since a turn was cancelled or failed; a new prompt frees it."""
        self._inbox, self._recorder, self._interrupt = inbox, recorder, interrupt
        self._moved = asyncio.Event()

    @property
    def inbox(self) -> Inbox:
        return self._inbox

    async def say(self, text: str, when: When, by: str) -> str:
        """The prompt's name; when this returns, it is on the disk. Raises UsageError and JournalError."""
        if not text.strip():
            raise UsageError("there is nothing in it")
        if len(text.encode(errors="surrogatepass")) > PROMPT_BYTES:
            raise UsageError(f"it is longer than {PROMPT_BYTES >> 10} KiB; put it into a file")
        if len(self._inbox) >= MAX_WAITING:
            raise UsageError(f"{MAX_WAITING} prompts wait already; drop some, or wait until they are read")
        entry = self._inbox.entry(text, when, by)
        # The commit point: past here it will be read, once, by whichever process runs the session then.
        await self._recorder.record(entry, then=partial(self._inbox.feed, entry))
        self.held = False
        self._moved.set()
        return entry.prompt

    async def drop(self, name: str, by: str) -> bool:
        """Take a prompt back; False when it does not wait (any more). Raises JournalError."""
        prompt = self._inbox.take(name)
        if prompt is None:
            return False
        try:
            await self._recorder.record(PromptDropped(prompt=name, by=by))
        except JournalError:
            self._inbox.put_back(prompt)
            raise
        self._moved.set()
        return True

    def cancel_turn(self) -> bool:
        """False when there is none. What waits already is held back with it."""
        if self.busy:
            self.held = True
            self._interrupt.cancel_turn()
        return self.busy

    def cancel_call(self, call_id: str) -> bool:
        return self._interrupt.cancel_call(call_id)

    @property
    def calls(self) -> tuple[str, ...]:
        """Ids of those that could be cancelled now."""
        return self._interrupt.calls

    def end_of_input(self) -> None:
        """Nobody says more: what was said is done, and then the session ends."""
        self.stays = False
        self._moved.set()

    def leave(self) -> None:
        """End the session now, its turn cancelled; what waits stays in the journal, for a resume."""
        self.left = True
        self.cancel_turn()
        self.end_of_input()

    async def something_said(self) -> bool:
        """Wait until there is a turn to begin; False when there will be none."""
        await self._until(lambda: bool(len(self._inbox) and not self.held) or not self.stays)
        return not self.left and not self.held and bool(len(self._inbox))

    async def room(self) -> None:
        """Wait until another prompt can be taken without anything in the way of it."""
        await self._until(lambda: len(self._inbox) < MAX_WAITING // 2)

    def moved(self) -> None:
        """The inbox is another one than it was."""
        self._moved.set()

    async def _until(self, true: Callable[[], bool]) -> None:
        while not true():
            self._moved.clear()
            await self._moved.wait()


Talk = Callable[[Desk], Awaitable[None]]
"""Reads what the user says while the session runs; it returns when there is no more to come."""


@asynccontextmanager
async def attended(desk: Desk, talk: Talk | None) -> AsyncIterator[None]:
    """Somebody talks at the desk while the block runs. A fault of theirs is raised at its end."""
    if talk is None:
        yield
        return
    talking = asyncio.ensure_future(talk(desk))
    talking.add_done_callback(lambda _: desk.end_of_input())
    try:
        yield
    finally:
        talking.cancel()
        with suppress(asyncio.CancelledError):
            await talking
