"""The gate's side in a session: its reports become journal entries, its questions become petitions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from harness.approvals.grants import Grant
from harness.approvals.petition import network_petition
from harness.approvals.service import Approvals
from harness.events import EgressClosed, EgressDecided, SessionStarted
from harness.process.outlet import Outlet
from harness.process.recorder import Recorder
from harness.process.session import Session
from policies.decide import Decision
from policies.schema import Policy
from sandbox.egress import Gate
from sandbox.egress.inspection import Inspection
from sandbox.egress.presets import expand
from sandbox.egress.report import Attempt, Closed, Decided, Report
from sandbox.egress.trust import upstream
from sandbox.protocol import Origin


def can_open(policy: Policy) -> bool:
    """Whether a session of this policy may ever reach anything; without that it gets no way out at all."""
    by_rule = any(rule.action != "deny" and rule.syscall == "network" for rule in policy.rules)
    network = policy.network
    return bool(network.allow or network.ask or by_rule or "network" in policy.sudo.may_ask)


@dataclass(frozen=True)
class Outfit:
    """What the way out needs of this machine, had before anything is made."""

    inspection: Inspection | None
    """For a policy that has TLS looked into."""
    tools: Mapping[str, str]
    """What the policy's presets tell the tools inside."""
    above: Gate | None = None
    """Of the session that started this one: what moves through this one's gate counts there, too."""

    @property
    def secrets(self) -> Mapping[str, str]:
        """Values of the bound secrets, which no record may hold."""
        return {} if self.inspection is None else self.inspection.secrets.values

    @property
    def sentinels(self) -> Mapping[str, str]:
        """What stands inside for them."""
        return {} if self.inspection is None else self.inspection.secrets.environment


async def outfit(
    policy: Policy, environ: Mapping[str, str], before: SessionStarted | None = None
) -> tuple[Policy, Outfit]:
    """The policy with its presets expanded, and the outfit. SandboxRefused where any of it cannot be had.

    `before` is how a session began that is taken up again: what it was told inside still holds.
    """
    policy, tools = await expand(policy)
    sentinels: Mapping[str, str] = {}
    if before is not None:
        tools, sentinels = before.tools, before.sentinels
    if policy.network.ca_file is not None:
        upstream(policy.network.ca_file)
    inspection = Inspection(policy, environ, sentinels) if policy.network.intercept else None
    return policy, Outfit(inspection, tools)


def reporter(recorder: Recorder) -> Report:
    """Journals what the gate tells; when that fails the gate sends nothing."""

    async def report(told: Decided | Closed) -> None:
        if isinstance(told, Closed):
            await recorder.record(
                EgressClosed(
                    connection=told.connection,
                    bytes_out=told.bytes_out,
                    bytes_in=told.bytes_in,
                    duration_s=told.duration_s,
                    why=told.why,
                )
            )
            return
        attempt = told.attempt
        await recorder.record(
            EgressDecided(
                connection=attempt.connection,
                protocol=attempt.protocol,
                host=attempt.host,
                port=attempt.port,
                decision=told.decision,
                rule=told.rule,
                reason=told.reason,
                method=attempt.method,
                path=attempt.path,
                address=told.address,
                exec_id=attempt.origin.call_id,
                program=attempt.origin.program,
            )
        )

    return report


def asker(approvals: Approvals, session: Session) -> Callable[[Attempt, Decision], Awaitable[bool]]:
    """Asks the user about a host that waits at the gate."""

    async def ask(attempt: Attempt, decision: Decision) -> bool:
        made = session.made.get(attempt.origin.call_id or "")
        petition = network_petition(
            attempt.host,
            attempt.port,
            "",
            ("opened by", opener(session, attempt.origin)),
            ("asked by", f"{decision.rule}: {decision.reason}"),
            call_id=None if made is None else made.call_id,
        )
        approval = await approvals.ask(petition)
        return approval.answer.granted and await approval.redeem()

    return ask


def opener(session: Session, origin: Origin) -> str:
    """Who inside opened a connection, in words."""
    program = f"{origin.program or 'a program that could not be told'} (pid {origin.pid or 'unknown'})"
    made = session.made.get(origin.call_id or "")
    if made is None:
        return f"{program}, of no call that is known"
    if made.running:
        return f"{program}, of call #{made.number}: {made.summary()}"
    return f"{program}, in the background, started by call #{made.number}: {made.summary()}"


def opens(outlet: Outlet | None) -> tuple[Callable[[Grant], None], Callable[[Grant], None]]:
    """What a grant that is given, and one that ends, does to the way out."""

    def given(grant: Grant) -> None:
        if outlet is None:
            return
        match grant.kind:
            case "network":
                outlet.grant(str(grant.bound["host"]), int(str(grant.bound["port"])))
            case "secret":
                outlet.release_secret(str(grant.bound["name"]))

    def ended(grant: Grant) -> None:
        if outlet is None:
            return
        match grant.kind:
            case "network":
                outlet.revoke(str(grant.bound["host"]), int(str(grant.bound["port"])))
            case "secret":
                outlet.withhold_secret(str(grant.bound["name"]))

    return given, ended
