"""`usermode shell`: an interactive shell in a fresh contained session, with a journal like any other."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterable
from contextlib import AsyncExitStack
from pathlib import Path

from harness.approvals.remembered import Remembered
from harness.boot.asking import approvals_of, gate_of, listen
from harness.boot.beginning import Beginning, begin
from harness.boot.egress import outfit
from harness.boot.machine import Opened, docker_machine
from harness.commands.place import Place
from harness.commands.say import say
from harness.errors import UsageError
from harness.events import Entry, Notice, SandboxOpened, SessionEnded, WorkspaceCopied
from harness.messages import Usage
from harness.process.budget import Budget, allowance
from harness.process.session import Made, Session
from harness.screen.bridge import bridge, raw, window_size
from harness.screen.lines import lines
from harness.store import Store, home, keep_apart
from harness.trust import in_force
from harness.words import counted
from policies import Policy
from sandbox.protocol import Command, Sandbox, SandboxSpec

SHELL = "command -v bash >/dev/null 2>&1 && exec bash -i; exec sh -i"


def shell(place: Place) -> int:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("`usermode shell` needs a terminal; `usermode run` is for everything else")
    return asyncio.run(_session(place))


async def _session(place: Place) -> int:
    async with AsyncExitStack() as stack:
        policy, ignored = await asyncio.to_thread(
            in_force, place.policy, place.directory, home(), place.typed
        )
        policy, out = await outfit(policy, os.environ)
        memory = Remembered(home(), place.policy)
        kept = await asyncio.to_thread(memory.load)
        machine = await stack.enter_async_context(docker_machine())
        image = place.image or policy.container.image
        image_digest = await machine.digest(image)
        keep_apart(place.directory, home())
        directory = Store(home()).new_session()
        beginning = Beginning(
            "(an interactive shell)", "none", policy, out, image, image_digest, place.runtime, place.directory
        )
        recorder = await begin(stack, directory, beginning, lambda event: None)
        if ignored:
            _tell(await recorder.record(*ignored))
        session = Session(Budget(allowance(policy.limits)))
        # No question stands on this terminal: the guest draws on it, and could draw one that lies.
        approvals = approvals_of(stack, policy, recorder, memory=memory)
        gate = gate_of(policy, out, approvals, session, recorder)
        spec = SandboxSpec(
            policy, image, place.directory, directory, directory.name, place.runtime, gate,
            image_digest=image_digest,
        )  # fmt: skip
        async with machine.open(spec) as opened, AsyncExitStack() as inside:
            facts = [fact for fact in (opened.posture, opened.copied) if fact is not None]
            _tell(await recorder.record(SandboxOpened(ref=opened.sandbox.ref), *facts))
            for petition in kept:
                await approvals.grants.give(petition, "always")
            await listen(inside, directory, approvals, opened.sandbox, recorder, None)
            say(f"session {directory.name}: a contained shell on {_what(opened, place.directory)}")
            if gate is not None and policy.network.ask:
                say(
                    f"a host that is not listed waits for you: usermode approvals {directory.name}, elsewhere"
                )
            say("exit ends it; Ctrl-] twice leaves a shell that does not answer")
            await _interact(opened.sandbox, policy, session)
        changes = 0 if place.directory is None else await machine.changes(directory)
        await recorder.record(
            SessionEnded(status="done", exit_code=0, reason="", turns=0, usage=Usage(), changes=changes)
        )
    if changes:
        say(f"{counted(changes, 'file')} changed; review them: usermode diff {directory.name}")
    return 0


def _tell(entries: Iterable[Entry]) -> None:
    """What is said before the shell begins; once it runs the screen is its own."""
    for entry in entries:
        if isinstance(entry, Notice | WorkspaceCopied):
            for line in lines(entry):
                say(line.text, error=isinstance(entry, Notice))


def _what(opened: Opened, directory: Path | None) -> str:
    if directory is None or opened.copied is None:
        return "an empty workspace"
    ways = {"copy": "a copy of", "overlay": "a private layer over", "bind": "the files themselves of"}
    return f"{ways[opened.copied.mode]} {directory}"


async def _interact(box: Sandbox, policy: Policy, session: Session) -> None:
    keys, screen = sys.stdin.fileno(), sys.stdout.fileno()
    size = window_size(screen)
    command = Command(
        argv=("sh", "-c", SHELL),
        env={"TERM": os.environ.get("TERM", "dumb")},
        stdin=None,
        timeout_s=policy.limits.session_s,
        tty=(size.lines, size.columns),
        call_id=session.next_exec_id(),
    )
    assert command.call_id is not None
    session.made[command.call_id] = Made(session.calls, "shell", lambda: "the shell")
    with raw(keys, screen):
        async with box.spawn(command) as process:
            await bridge(process, keys, screen)
