"""Posture: before anything else runs in a container, what it is found to be must equal what is configured.

A configuration that the engine accepted is only a wish. The probe (`images/init/probe.c`) measures from
inside; what init sees of itself at a glance (who one is, capabilities, the filter, every mount, network
devices) is seen in each container, the long sweep once for the same image, policy, engine and kernel.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Protocol

from sandbox.errors import Busy, SandboxRefused
from sandbox.hardening import INIT
from sandbox.posture import remembered
from sandbox.posture.compare import ALWAYS, differences, questions
from sandbox.posture.expected import Expected
from sandbox.posture.facts import Answer, answers, glanced
from sandbox.protocol import Command, Sandbox

PROBE_S = 30.0
OUTPUT_BYTES = 4 << 20
SHOWN = 12
"""Differences that a refusal names; more are counted."""


@dataclass(frozen=True)
class Posture:
    probes: int
    """Facts that were asked for, all of them found as configured."""
    cached: bool
    """The sweep was made earlier; what is cheap to see was seen now."""
    duration_s: float


class Container(Sandbox, Protocol):
    """A sandbox whose init says what it sees of itself."""

    async def glance(self) -> bytes:
        """The answer to GLANCE. OSError when a table cannot be read."""


async def verify(box: Container, want: Expected, key: str) -> Posture:
    """SandboxRefused, naming each difference, unless the container is exactly as configured."""
    begun = time.perf_counter()
    looking = asyncio.create_task(look(box))
    await asyncio.sleep(0)  # It is asked for now, and answered while the disk is.
    probes = known = remembered.recall(key)
    refuse(differences(want, await looking, ALWAYS))
    if probes is None:
        found = await measure(box, questions(want))
        refuse(differences(want, found))
        probes = len(found)
        remembered.remember(key, probes)
    return Posture(probes, known is not None, time.perf_counter() - begun)


async def look(box: Container) -> dict[str, Answer]:
    """What the subjects of ALWAYS need."""
    try:
        return glanced(await box.glance())
    except (OSError, ValueError) as error:
        raise _unmeasured(error) from error


async def measure(box: Sandbox, asked: list[str]) -> dict[str, Answer]:
    """The probe's answers. SandboxRefused when it cannot run or does not answer."""
    text = "".join(f"{question}\n" for question in asked)
    command = Command(
        (INIT, "probe"), cwd="/", stdin=text.encode(), timeout_s=PROBE_S, output_bytes=OUTPUT_BYTES
    )
    try:
        done = await box.run(command)
        if done.exit_code != 0 or done.truncated:
            raise ValueError(f"it ended with {done.exit_code}")
        return answers(asked, done.stdout)
    except (OSError, ValueError, Busy) as error:
        raise _unmeasured(error) from error


def _unmeasured(error: Exception) -> SandboxRefused:
    return SandboxRefused(f"the posture could not be measured, so nothing starts: {error}")


def refuse(found: list[str]) -> None:
    if not found:
        return
    more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    raise SandboxRefused(f"the sandbox is not as configured: {'; '.join(found[:SHOWN])}{more}")
