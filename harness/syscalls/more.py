"""`sudo` for higher limits: what a running session can be given more of, at once.

Memory, processes and processors are the container's, which the engine changes while it runs; the rest is
counted on the host. Disks, open files and all that is not named here is fixed when a session begins.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from harness.approvals.petition import Petition
from harness.process.budget import allowance
from harness.syscalls.base import Context, Outcome, Refused
from harness.syscalls.consent import consent
from policies.schema import Ceilings, Limits
from sandbox.errors import SandboxRefused

CAN_RISE = tuple(Ceilings.model_fields)
CONTAINER = frozenset({"memory_mb", "pids", "cpus"})


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
    if not CONTAINER.isdisjoint(wanted):
        try:
            await context.sandbox.adjust(higher)
        except SandboxRefused as exc:
            raise Refused("failed", f"the user said yes, and {exc}; nothing has changed") from exc
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
        if name in CONTAINER - context.sandbox.adjustable:
            text = f"limits: {name} is fixed while this sandbox runs: gVisor can be given no more of it"
            raise Refused("bad_arguments", text)
        now = getattr(present, name)
        if now is None or not value > now:
            raise Refused("bad_arguments", f"limits: {name} is {now or 'without limit'} already")
        most = getattr(context.policy.sudo.limits, name)
        if most is not None and value > most:
            text = f"denied: policy {context.policy.name} lets {name} be asked for up to {most:,g}"
            raise Refused("denied", f"{text} (sudo.limits). Nobody was asked.")
    if "egress_mb" in wanted and context.outlet is None:
        raise Refused("bad_arguments", "limits: this session has no way out, so egress_mb means nothing")
    try:
        return Limits.model_validate({**present.model_dump(), **wanted})
    except ValidationError as exc:
        error = exc.errors(include_url=False, include_input=False, include_context=False)[0]
        raise Refused("bad_arguments", f"limits: {error['loc'][-1]}: {error['msg']}") from None
