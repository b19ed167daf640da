"""`usermode attack`: the walls of a session, tried for real, and those of a plain container beside them."""

from __future__ import annotations

import asyncio
import json as jsonlib
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Literal, cast

from harness.commands.say import say, wrapped
from harness.errors import UsageError
from harness.words import counted
from policies import Policy, load
from sandbox.attack import Result, attack, known
from sandbox.attack.elsewhere import ELSEWHERE
from sandbox.engine import Engine
from sandbox.protocol import SandboxSpec

MARKS = {"held": "held", "breached": "BREACHED", "failed": "FAILED", "not applicable": "-"}
BREACHED = 1


@dataclass(frozen=True)
class Aim:
    """What is attacked, as the command line said it."""

    policy: str
    image: str | None = None
    runtime: str | None = None
    baseline: str | None = None
    only: Sequence[str] = ()


def run(aim: Aim, *, json: bool) -> int:
    """Exit code 1 unless all of ours held; what the plain container lets through is no failure."""
    wanted = {identity.upper() for text in aim.only for identity in text.split(",") if identity}
    if unknown := sorted(wanted - known()):
        raise UsageError(f"no attack {unknown[0]!r}; see docs/attacks.md for their ids")
    if aim.baseline not in (None, "docker"):
        raise UsageError(f"no baseline {aim.baseline!r} to compare with; there is docker")
    if aim.runtime not in (None, "runc", "runsc"):
        raise UsageError(f"no runtime {aim.runtime!r}; there are runc and runsc")
    return asyncio.run(_run(load(aim.policy), aim, wanted, json=json))


async def _run(policy: Policy, aim: Aim, wanted: Collection[str], *, json: bool) -> int:
    runtime = cast(Literal["runc", "runsc"] | None, aim.runtime)
    spec = SandboxSpec(policy=policy, image=aim.image, runtime=runtime)
    name = f"{policy.name} on {runtime or policy.container.runtime}"
    engine = await Engine.connect()
    try:
        ours = await _told(name, attack(spec, engine, only=wanted), json=json, lines=True)
        plain: list[Result] = []
        if aim.baseline:
            there = attack(spec, engine, baseline=True, only=wanted)
            plain = await _told("plain docker", there, json=json, lines=False)
    finally:
        await engine.close()
    if not json:
        _elsewhere(ours)
        if plain:
            _beside(name, ours, plain)
        _summary(name, ours)
        if plain:
            _summary("plain docker", plain)
    return BREACHED if any(one.outcome in ("breached", "failed") for one in ours) else 0


async def _told(name: str, results: AsyncIterator[Result], *, json: bool, lines: bool) -> list[Result]:
    """All of them, each shown as it comes."""
    told = []
    async for result in results:
        if json:
            print(jsonlib.dumps({"target": name, **asdict(result)}), flush=True)
        elif lines and result.id not in ELSEWHERE:
            _line(result)
        told.append(result)
    return told


def _line(result: Result) -> None:
    say(f"{result.id}  {MARKS[result.outcome]:8}  {result.title}")
    for evidence in result.evidence:
        wrapped(evidence, " " * 15)


def _elsewhere(results: Sequence[Result]) -> None:
    """What this command does not try: the ids that have a reason in common, on one line."""
    reasons: dict[str, list[str]] = {}
    for one in results:
        if one.id in ELSEWHERE:
            reasons.setdefault(one.evidence[0], []).append(one.id)
    say()
    for reason, ids in reasons.items():
        wrapped(f"{' '.join(ids)}: {reason}", "    ", first="")


def _beside(name: str, ours: Sequence[Result], plain: Sequence[Result]) -> None:
    """Both outcomes of what was tried in both, a line an attack."""
    there = {one.id: one for one in plain}
    say()
    say(f"{'':5}{'here':10}{'docker':10}({name}, and a plain container)")
    for one in ours:
        other = there[one.id]
        if one.id not in ELSEWHERE:
            say(f"{one.id}  {MARKS[one.outcome]:10}{MARKS[other.outcome]:10}{one.title}")
    say()


def _summary(name: str, results: Sequence[Result]) -> None:
    tried = [one for one in results if one.outcome != "not applicable"]
    breaches = sum(one.outcome == "breached" for one in tried)
    failed = sum(one.outcome == "failed" for one in tried)
    more = f", {failed} could not be carried out" if failed else ""
    said = f"{counted(len(tried), 'case')}, {breaches} breach{'' if breaches == 1 else 'es'}{more}"
    say(f"{name}: {said} ({len(results) - len(tried)} not tried)")
