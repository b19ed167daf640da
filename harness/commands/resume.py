"""`usermode resume`: go on with a session where its journal ends, watched and interruptible as a run is."""

from __future__ import annotations

from harness.approvals.petition import Prompter
from harness.boot_resume import ResumeOptions
from harness.boot_resume import resume as boot
from harness.commands.run import TASK_BYTES, Watch, attended
from harness.errors import UsageError
from harness.events import SessionEnded
from harness.store import Store, home


def resume(reference: str, message: str, model: str, *, base_url: str | None, json: bool) -> int:
    if len(message.encode(errors="surrogateescape")) > TASK_BYTES:
        raise UsageError(f"the message is longer than {TASK_BYTES >> 10} KiB; put it into a file")
    text = message.encode(errors="surrogateescape").decode(errors="replace").strip()
    session = Store(home()).session(reference).name

    async def start(watch: Watch, prompter: Prompter | None) -> SessionEnded:
        watch.session = session
        options = ResumeOptions(session, text, model, base_url=base_url, prompter=prompter)
        return await boot(options, watch, watch.interrupt)

    return attended(start, json)
