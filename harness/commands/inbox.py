"""`usermode say`, `queue`, `cancel`: from another terminal, to a session that runs."""

from __future__ import annotations

import asyncio
import json as jsonlib
import sys
from collections import deque
from dataclasses import asdict
from pathlib import Path

from harness.commands.say import say, table
from harness.control.client import NotRunning, line_to
from harness.control.server import MAX_SAID
from harness.errors import UsageError
from harness.events import Entry, PromptDropped, SessionEnded
from harness.inbox import Inbox
from harness.journal.reading import read
from harness.journal.record import Record
from harness.journal.writer import Journal
from harness.store import Store, home
from harness.words import bounded

BY = "another terminal"
WHEN = {"request": "next request", "turn": "next turn"}


def say_to(reference: str, text: str, *, following: bool) -> int:
    directory = Store(home()).session(reference)
    if text == "-":
        text = sys.stdin.buffer.read(4 * MAX_SAID + 1).decode(errors="replace")
    text = text.encode(errors="surrogateescape").decode(errors="replace").strip()
    if not text:
        raise UsageError("there is nothing in it")
    if len(text) > MAX_SAID:
        raise UsageError(f"it is longer than {MAX_SAID >> 10} Ki characters; put it into a file")
    try:
        answer = asyncio.run(_ask(directory, op="say", text=text, when="turn" if following else "request"))
    except NotRunning as exc:
        raise UsageError(f"{exc}; `usermode resume {directory.name} TEXT` goes on with it") from exc
    say(f"{directory.name}: {answer['prompt']} waits for the {WHEN['turn' if following else 'request']}")
    return 0


def queue(reference: str, drop: str | None, *, json: bool) -> int:
    directory = Store(home()).session(reference)
    if drop is not None:
        asyncio.run(_drop(directory, drop))
        say(f"{directory.name}: {drop} is taken back")
        return 0
    waiting = _inbox(directory).waiting
    if json:
        for prompt in waiting:
            print(jsonlib.dumps({"v": 1, "session": directory.name, **asdict(prompt)}))
    elif not waiting:
        say("nothing waits")
    else:
        table([(prompt.name, WHEN[prompt.when], bounded(prompt.text)) for prompt in waiting])
    return 0


def cancel(reference: str, call: str | None) -> int:
    directory = Store(home()).session(reference)
    asyncio.run(_ask(directory, op="cancel", call=call))
    say(f"{directory.name}: {call or 'the turn'} is being stopped")
    return 0


async def _ask(directory: Path, **request: object) -> dict[str, object]:
    async with line_to(directory) as line:
        return await line.ask(**request)


def _inbox(directory: Path) -> Inbox:
    """As the journal tells it, whether the session runs or not."""
    inbox = Inbox()
    for record in read(directory):
        inbox.feed(record.entry)
    return inbox


async def _drop(directory: Path, name: str) -> None:
    """By the session itself, or, where none runs, in its journal."""
    try:
        await _ask(directory, op="drop", prompt=name)
        return
    except NotRunning:
        pass
    inbox, last = Inbox(), deque[Entry](maxlen=1)

    def told(record: Record) -> None:
        inbox.feed(record.entry)
        last.append(record.entry)

    journal = await asyncio.to_thread(Journal.open, directory, told=told)
    try:
        if inbox.take(name) is None:
            raise UsageError(f"no prompt {name} waits")
        # A session that had ended still has.
        left = {"waiting": len(inbox)}
        ended = [entry.model_copy(update=left) for entry in last if isinstance(entry, SessionEnded)]
        await journal.append_many([PromptDropped(prompt=name, by=BY), *ended])
    finally:
        journal.close()
