"""An attack as data: what is tried, and how its effect would be seen. Its id is that of docs/attacks.md.

An attack is judged by its effect. "Breached" names what was achieved; an error message proves nothing, and
"not applicable" has a reason that a reader can check.
"""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from sandbox.container.box import DockerSandbox
from sandbox.posture.check import measure
from sandbox.posture.numbers import numbers
from sandbox.posture.sweep import INVALID, REFUSED, SIGSYS
from sandbox.protocol import Command

Outcome = Literal["held", "breached", "failed", "not applicable"]
Kind = Literal["usermode", "docker"]
PROGRAM_S = 30.0


@dataclass(frozen=True)
class Result:
    id: str
    title: str
    outcome: Outcome
    evidence: tuple[str, ...] = ()
    """What was achieved, or why it was not tried."""
    duration_s: float = 0.0


class NotApplicable(Exception):
    """Raised by an attack that cannot be tried here; the message says why."""


class Failed(Exception):
    """An attack's own program went wrong, so nothing was shown."""


class Target(Protocol):
    """What is attacked: a session, or a container as the engine starts it by default."""

    kind: Kind
    runtime: str
    box: DockerSandbox
    """The container that quiet attacks share."""
    root: bool
    """Whether programs run as root inside."""

    def fresh(self, **limits: Any) -> AbstractAsyncContextManager[DockerSandbox]:
        """Another one, with these limits where limits can be set."""


Attack = Callable[[Target], Awaitable[Sequence[str]]]
"""What it achieved; nothing, when the target holds. NotApplicable, or Failed."""


@dataclass(frozen=True)
class Case:
    id: str
    title: str
    attack: Attack


@dataclass(frozen=True)
class Program:
    """Python that runs inside. `done` is the list of what it achieved; `tried(what, action)` adds to it."""

    source: str
    arguments: tuple[str, ...] = ()
    timeout_s: float = PROGRAM_S

    async def __call__(self, target: Target) -> Sequence[str]:
        return await self.within(target.box)

    async def within(self, box: DockerSandbox) -> list[str]:
        return [str(one) for one in await run_python(box, self.source, self.arguments, self.timeout_s)]


PRELUDE = """
import ctypes, errno, glob, json, os, re, resource, signal, socket, stat, subprocess, sys, time
done = []
def tried(what, action, *arguments):
    try:
        result = action(*arguments)
    except (OSError, subprocess.SubprocessError):
        return None
    done.append(what)
    return result
def succeeds(*argv):
    run = subprocess.run(argv, capture_output=True, stdin=subprocess.DEVNULL, timeout=10)
    if run.returncode:
        raise OSError(run.returncode, "refused")
    return run.stdout.decode()
def opened(path, flags=os.O_WRONLY):
    os.close(os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY))
"""


async def run_python(box: DockerSandbox, source: str, arguments: Sequence[str], timeout_s: float) -> Any:
    """What the program left in `done`. NotApplicable without python3, Failed when it does not end well."""
    text = f"{PRELUDE}\n{source}\nprint(json.dumps(done))\n"
    command = Command(
        ("python3", "-", *arguments), cwd="/tmp", stdin=text.encode(), timeout_s=timeout_s, user=None
    )
    ran = await box.run(command)
    if ran.exit_code == 127:
        raise NotApplicable("the image has no python3 to try it with")
    if ran.exit_code != 0:
        last = ran.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise Failed(f"exit {ran.exit_code}: {' '.join(last)}")
    return json.loads(ran.stdout)


@dataclass(frozen=True)
class Calls:
    """Raw system calls. One that the kernel's own code answers, whatever it says, has got past the filter."""

    attempts: tuple[tuple[str, tuple[int, ...]], ...]
    unknown: frozenset[int] = frozenset()
    """Further errors that say the kernel has nothing there."""

    async def __call__(self, target: Target) -> Sequence[str]:
        known = numbers(os.uname().machine)
        asked = {
            " ".join(["t", str(known[name]), *(f"{value:#x}" for value in arguments)]): (
                name if arguments == INVALID else f"{name}({', '.join(map(str, arguments))})"
            )
            for name, arguments in self.attempts
            if name in known
        }
        found = await measure(target.box, list(asked))
        return [
            f"{name} is answered {'with success' if answer.error == 0 else f'with errno {answer.error}'}"
            for question, name in asked.items()
            if (answer := found[question]).error not in REFUSED | {SIGSYS} | self.unknown
        ]


def calls(*names: str) -> Calls:
    """With arguments that can do no harm."""
    return Calls(tuple((name, INVALID) for name in names))
