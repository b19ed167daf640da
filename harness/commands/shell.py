"""`usermode shell`: an interactive shell in a fresh contained session, with a journal like any other."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import harness
from harness.bridge import bridge, raw, window_size
from harness.commands.place import Place
from harness.commands.say import say
from harness.errors import UsageError
from harness.events import SandboxOpened, SessionEnded, SessionStarted
from harness.journal import Journal
from harness.lines import counted, lines
from harness.machine import Opened, docker_machine
from harness.messages import Usage
from harness.store import Store, home, keep_apart
from harness.trust import in_force
from policies import Policy
from policies.load import digest
from sandbox.protocol import Command, Sandbox, SandboxSpec

SHELL = "command -v bash >/dev/null 2>&1 && exec bash -i; exec sh -i"


def shell(place: Place) -> int:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("`usermode shell` needs a terminal; `usermode run` is for everything else")
    return asyncio.run(_session(place))


async def _session(place: Place) -> int:
    async with AsyncExitStack() as stack:
        policy = await asyncio.to_thread(_policy, place)
        machine = await stack.enter_async_context(docker_machine())
        image = place.image or policy.container.image
        image_digest = await machine.digest(image)
        keep_apart(place.directory, home())
        directory = Store(home()).new_session()
        journal = Journal.create(directory)
        stack.callback(journal.close)
        await journal.append(
            SessionStarted(
                session=directory.name,
                task="(an interactive shell)",
                model="none",
                policy=policy.model_dump(mode="json"),
                policy_digest=digest(policy),
                image=image,
                image_digest=image_digest,
                runtime=place.runtime or policy.container.runtime,
                workspace=None if place.directory is None else str(place.directory),
                harness_version=harness.__version__,
            )
        )
        spec = SandboxSpec(policy, image, place.directory, directory, directory.name, place.runtime)
        async with machine.open(spec) as opened:
            await journal.append(SandboxOpened(ref=opened.sandbox.ref))
            if opened.copied is not None:
                await journal.append(opened.copied)
                for line in lines(opened.copied):
                    say(line.text, error=line.tone == "error")
            say(f"session {directory.name}: a contained shell on {_what(opened, place.directory)}")
            say("exit ends it; Ctrl-] twice leaves a shell that does not answer")
            await _interact(opened.sandbox, policy)
        changes = 0 if place.directory is None else await machine.changes(directory)
        await journal.append(
            SessionEnded(status="done", exit_code=0, reason="", turns=0, usage=Usage(), changes=changes)
        )
    if changes:
        say(f"{counted(changes, 'file')} changed; review them: usermode diff {directory.name}")
    return 0


def _what(opened: Opened, directory: Path | None) -> str:
    if directory is None or opened.copied is None:
        return "an empty workspace"
    ways = {"copy": "a copy of", "overlay": "a private layer over", "bind": "the files themselves of"}
    return f"{ways[opened.copied.mode]} {directory}"


async def _interact(box: Sandbox, policy: Policy) -> None:
    keys, screen = sys.stdin.fileno(), sys.stdout.fileno()
    size = window_size(screen)
    command = Command(
        argv=("sh", "-c", SHELL),
        env={"TERM": os.environ.get("TERM", "dumb")},
        stdin=None,
        timeout_s=policy.limits.session_s,
        tty=(size.lines, size.columns),
    )
    with raw(keys, screen):
        async with box.spawn(command) as process:
            await bridge(process, keys, screen)


def _policy(place: Place) -> Policy:
    """The user's policy with the project's own file over it."""
    policy, notices = in_force(place.policy, place.directory, home(), place.typed)
    for notice in notices:
        say(notice.text, error=True)
    return policy
