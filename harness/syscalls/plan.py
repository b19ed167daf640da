"""`plan`: the model's own list of steps, kept in the session and shown to the user. It changes nothing."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from harness.process.session import PlanStep
from harness.syscalls.base import Access, Arguments, Context, Outcome

_MARKS = {"pending": "[ ]", "in_progress": "[~]", "done": "[x]"}


class Step(Arguments):
    step: str = Field(min_length=1, max_length=500)
    status: Literal["pending", "in_progress", "done"] = "pending"


class Plan(Arguments):
    steps: tuple[Step, ...] = Field(max_length=100, description="The whole plan; it replaces the last one.")


def access(arguments: Plan, cwd: str) -> Access:
    return Access(writes=("plan",))


async def plan(context: Context, arguments: Plan) -> Outcome:
    context.session.plan = tuple(PlanStep(one.step, one.status) for one in arguments.steps)
    lines = [f"{_MARKS[one.status]} {one.step}" for one in arguments.steps]
    steps = [one.model_dump() for one in arguments.steps]
    return Outcome("\n".join(lines) or "[the plan is empty]", None, {"plan": steps})
