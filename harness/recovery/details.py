"""What the details of outcomes say to recovery, read back into values. They come from our own journal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.messages import JsonObject, Usage
from harness.process.session import PlanStep
from policies.schema import Limits
from sandbox.protocol import Completed, Rusage


def completed(details: JsonObject) -> Completed:
    """A result whose output was shown and whose record the sandbox has released: its end and its counts."""
    spill = details.get("spill")
    return Completed(
        exit_code=_number(details, "exit_code"),
        signal=details.get("signal"),
        stdout=b"",
        stderr=b"",
        stdout_total=_number(details, "stdout_bytes"),
        stderr_total=_number(details, "stderr_bytes"),
        timed_out=bool(details.get("timed_out")),
        cancelled=bool(details.get("cancelled")),
        oom_killed=bool(details.get("oom_killed")),
        disk_exceeded=bool(details.get("disk_exceeded")),
        spill=dict(spill) if isinstance(spill, dict) else {},
        duration_s=float(details.get("duration_s") or 0),
        rusage=Rusage(0.0, 0.0, 0),
        jobs=_number(details, "processes_left"),
    )


def totals(details: JsonObject) -> dict[str, int] | None:
    """Bytes of each stream that the model has been shown or told of; None where nothing says so."""
    seen = details.get("seen")
    if isinstance(seen, dict):
        return {stream: _number(seen, stream) for stream in ("stdout", "stderr")}
    if "stdout_bytes" in details:
        return {stream: _number(details, f"{stream}_bytes") for stream in ("stdout", "stderr")}
    return None


def plan(arguments: JsonObject) -> tuple[PlanStep, ...]:
    steps = arguments.get("steps")
    return tuple(
        PlanStep(str(step["step"]), step.get("status", "pending"))
        for step in (steps if isinstance(steps, list) else ())
    )


def raised(present: Limits, wanted: Mapping[str, Any]) -> Limits:
    return Limits.model_validate({**present.model_dump(), **wanted})


def spent_by(details: JsonObject) -> tuple[int, Usage, float | None] | None:
    """Turns, tokens and dollars (None: unknown) that a child session spent; None where there was none."""
    spent = details.get("spent")
    if not isinstance(spent, dict):
        return None
    cost = spent.get("cost_usd")
    return (
        _number(spent, "turns"),
        Usage.model_validate(spent.get("usage")),
        float(cost) if isinstance(cost, int | float) else None,
    )


def _number(details: Mapping[str, Any], name: str) -> int:
    found = details.get(name)
    return found if isinstance(found, int) else 0
