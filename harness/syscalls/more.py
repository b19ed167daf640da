"""`sudo` for higher limits: what a running session can be given more of, at once."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from harness.approvals.petition import Petition
from harness.budget import allowance
from harness.syscalls.base import Context, Outcome, Refused
from harness.syscalls.consent import consent
from policies.schema import Limits

CAN_RISE = ("command_s", "yield_s", "turns", "tokens", "cost_usd", "session_s", "egress_mb")
"""The others are built into the running container."""


async def limits(context: Context, wanted: Mapping[str, float], reason: str) -> Outcome:
    present = context.limits
    higher = _checked(context, present, wanted)
    facts = tuple(
        (name, f"{getattr(present, name):,g} now, {value:,g} then") for name, value in wanted.items()
    )
    petition = Petition(
        kind="limits",
        subject=", ".join(f"{name} {value:g}" for name, value in sorted(wanted.items())),
        facts=facts,
        said=reason,
        bound={"limits": dict(wanted)},
    )
    await consent(context, petition)
    context.session.limits = higher
    context.session.budget.allowed = allowance(higher)
    if "egress_mb" in wanted and context.outlet is not None:
        context.outlet.allow_bytes(higher.egress_mb)
    return Outcome(
        "granted, from now on: " + ", ".join(f"{name} {value:g}" for name, value in wanted.items()),
        None,
        {"limits": dict(wanted)},
    )


def _checked(context: Context, present: Limits, wanted: Mapping[str, float]) -> Limits:
    """The limits as they would be. Raises Refused for what cannot rise, or would not."""
    if not wanted:
        raise Refused("bad_arguments", f"limits: name at least one of {', '.join(CAN_RISE)}")
    for name, value in wanted.items():
        if name not in CAN_RISE:
            raise Refused(
                "bad_arguments",
                f"limits: {name[:50]!r} cannot be raised in a running session; these can: "
                f"{', '.join(CAN_RISE)}",
            )
        now = getattr(present, name)
        if now is None or not value > now:
            raise Refused("bad_arguments", f"limits: {name} is {now or 'without limit'} already")
    if "egress_mb" in wanted and context.outlet is None:
        raise Refused("bad_arguments", "limits: this session has no way out, so egress_mb means nothing")
    try:
        return Limits.model_validate({**present.model_dump(), **wanted})
    except ValidationError as exc:
        error = exc.errors(include_url=False, include_input=False, include_context=False)[0]
        raise Refused("bad_arguments", f"limits: {error['loc'][-1]}: {error['msg']}") from None
