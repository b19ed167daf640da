"""The doctor (diagnostics): what this engine and machine can hold, and what that means for a session."""

from __future__ import annotations

from sandbox.doctor.facts import Facts, gather
from sandbox.doctor.findings import Finding, findings
from sandbox.engine import MISSING, Engine
from sandbox.errors import SandboxError

__all__ = ["Facts", "Finding", "examine", "findings"]


async def examine(engine: Engine | None) -> list[Finding]:
    """Never raises for what it finds; an engine that stops answering meanwhile is a finding, too."""
    if engine is None:
        return [Finding("engine", "fail", "none answers", f"Nothing can run: {MISSING}.")]
    try:
        facts = await gather(engine)
    except SandboxError as error:
        return [Finding("engine", "fail", "stopped answering", str(error))]
    return findings(facts)
