"""`usermode resume`: go on with a session where its journal ends, watched and interruptible as a run is.

A chat goes on as a chat where its user is there to talk; with a message, or without a terminal, what was said
is done and the session ends.
"""

from __future__ import annotations

import sys

from harness.approvals.petition import Prompter
from harness.boot.resume import ResumeOptions
from harness.boot.resume import resume as boot
from harness.commands import chat
from harness.commands.run import TASK_BYTES, Watch, attended
from harness.errors import UsageError
from harness.events import SessionEnded
from harness.rows import SessionRow, row_of
from harness.store import Store, home


def resume(reference: str, message: str, model: str, *, base_url: str | None, json: bool) -> int:
    if len(message.encode(errors="surrogateescape")) > TASK_BYTES:
        raise UsageError(f"the message is longer than {TASK_BYTES >> 10} KiB; put it into a file")
    text = message.encode(errors="surrogateescape").decode(errors="replace").strip()
    store = Store(home())
    directory = store.session(reference)
    session = directory.name
    if not text and not json and sys.stdin.isatty() and sys.stdout.isatty() and is_chat(row_of(directory)):
        return chat.resume(session, model, new=False, base_url=base_url, json=False)

    async def start(watch: Watch, prompter: Prompter | None) -> SessionEnded:
        watch.session = session
        options = ResumeOptions(session, text, model, base_url=base_url, prompter=prompter)
        return await boot(options, watch, watch.interrupt)

    return attended(start, json)


def is_chat(row: SessionRow) -> bool:
    """Whether it was begun without a task: then it waits for its user where nothing else is to be done."""
    return bool(row.started) and not row.task
