"""Whom a session asks: its approvals, the way out that a yes may open, and the user's other terminals.

Wired once, the same for a run, a session that is taken up again and a shell.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

from harness.approvals.grants import Grants
from harness.approvals.petition import Prompter
from harness.approvals.remembered import Remembered
from harness.approvals.service import Approvals
from harness.boot.egress import Outfit, asker, can_open, opens, reporter
from harness.control.desk import Desk
from harness.control.server import controlled
from harness.events import Notice
from harness.process.recorder import Recorder
from harness.process.session import Session
from policies.schema import Policy
from sandbox.egress import Gate
from sandbox.protocol import Sandbox


def approvals_of(
    stack: AsyncExitStack,
    policy: Policy,
    recorder: Recorder,
    *,
    prompter: Prompter | None = None,
    memory: Remembered | None = None,
) -> Approvals:
    """Questions to the user, and the answers that stand until the stack is closed."""
    grants = Grants(recorder)
    stack.callback(grants.close)
    return Approvals(recorder, grants, policy.sudo.timeout_s, prompter=prompter, memory=memory)


def gate_of(
    policy: Policy, out: Outfit, approvals: Approvals, session: Session, recorder: Recorder
) -> Gate | None:
    """The way out, wired to the session's questions, journal and grants; None where none can ever open."""
    gate = None
    if can_open(policy):
        ask, report = asker(approvals, session), reporter(recorder)
        gate = Gate(
            policy, ask=ask, report=report, inspection=out.inspection, tools=out.tools, above=out.above
        )
    approvals.grants.on_given, approvals.grants.on_end = opens(gate)
    return gate


async def listen(
    stack: AsyncExitStack,
    directory: Path,
    approvals: Approvals,
    box: Sandbox,
    recorder: Recorder,
    desk: Desk | None,
) -> None:
    """Let other terminals of the user in. Without the socket questions are answered at this one, or not."""
    try:
        await stack.enter_async_context(controlled(directory, approvals, box, desk))
    except OSError as exc:
        text = f"this session cannot be reached from another terminal: {exc.strerror or exc}"
        await recorder.record(Notice(level="warning", code="control", text=text))
