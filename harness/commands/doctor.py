"""`usermode doctor`: what this machine and its engine can hold, and what each finding means."""

from __future__ import annotations

import asyncio
import json as jsonlib
from dataclasses import asdict

from harness.commands.say import say, wrapped
from harness.exits import SANDBOX
from sandbox.doctor import Finding, examine
from sandbox.engine import Engine
from sandbox.errors import EngineMissing

MARKS = {"ok": "ok  ", "warn": "WARN", "fail": "FAIL"}


def doctor(*, json: bool) -> int:
    findings = asyncio.run(_examine())
    for one in findings:
        if json:
            print(jsonlib.dumps(asdict(one)))
            continue
        say(f"{MARKS[one.status]} {one.name}: {one.value}")
        wrapped(one.meaning, " " * 7)
    return SANDBOX if any(one.status == "fail" for one in findings) else 0


async def _examine() -> list[Finding]:
    try:
        engine = await Engine.connect()
    except EngineMissing:
        return await examine(None)
    try:
        return await examine(engine)
    finally:
        await engine.close()
