"""The user's consent inside a call, and what the model is told when it is not there."""

from __future__ import annotations

from dataclasses import replace

from harness.approvals.petition import Petition
from harness.approvals.service import Again, Approval
from harness.syscalls.base import Context, Outcome, Refused

DO_WITHOUT = "Nothing was run. Do without it, or say in your answer what you would need."
_NOES = {
    "denied": "denied: the user was asked, and said no.",
    "no_approver": "no approver: the user would have to be asked, and nobody can be in this session.",
    "approval_timeout": "approval timeout: the user was asked, and nobody answered in time.",
    "approver_error": "approver error: the user could not be asked, so the answer is no.",
    "changed": "changed: the user said yes, and what would run has changed since, so the answer is void.",
}


def unanswered(approval: Approval, rule: str = "") -> Outcome:
    """The result of a call whose petition got no yes, or whose yes is void."""
    code = approval.answer.code
    assert code != "approved"
    why = f" ({rule})" if rule else ""
    return Outcome(f"{_NOES[code]}{why} {DO_WITHOUT}", code)


async def consent(context: Context, petition: Petition, again: Again | None = None) -> Approval:
    """Ask for it and use the answer up: the effect comes right after this. Raises Refused without a yes."""
    petition = replace(petition, call_id=context.call_id)
    approval = await context.approvals.ask(petition, again)
    if approval.answer.granted and await approval.redeem():
        return approval
    outcome = unanswered(approval)
    assert outcome.error is not None
    raise Refused(outcome.error, outcome.content)
