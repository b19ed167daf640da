"""`sudo`: ask the user for one named thing beyond the policy, and carry it out after a yes.

It can ask for a way to a host, a command as root inside, the use of a bound secret, a copy of a host file, or
higher limits. It can switch nothing off. The user sees facts, not the model's reading of them; only a yes to
exactly those facts has an effect.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from harness.approvals.petition import Kind, Petition, Scope, endpoint, network_petition
from harness.syscalls.base import Access, Arguments, Context, Outcome, Refused, resolve
from harness.syscalls.bash import find_tools
from harness.syscalls.bound import look
from harness.syscalls.consent import consent
from harness.syscalls.host_path import default_place, host_path
from harness.syscalls.more import limits
from harness.syscalls.output import outcome
from policies.egress import decide_connection
from policies.patterns import canonical_host, split_entry
from sandbox.protocol import Command


class RootCommand(BaseModel):
    """A command to run as root."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    command: str = Field(min_length=1, max_length=10_000, description="Shell text, run as uid 0 inside.")
    cwd: str | None = Field(None, description="Directory to run in; without one, the working directory.")


class Sudo(Arguments):
    reason: str = Field(
        min_length=1, max_length=1000, description="Why it is needed, for the user: one or two sentences."
    )
    network: str | None = Field(None, max_length=300, description="`host:port` to be allowed to reach.")
    root: RootCommand | None = Field(
        None, description="A command to run once as root inside the sandbox, e.g. to install a package."
    )
    secret: str | None = Field(None, max_length=128, description="The name of a secret to be allowed to use.")
    host_path: str | None = Field(
        None, max_length=4096, description="Absolute path of a file of the user's machine to get a copy of."
    )
    to: str | None = Field(
        None, max_length=4096, description="With host_path: where to, below /workspace or /tmp."
    )
    limits: dict[str, float] | None = Field(
        None,
        description="Limits to raise, by name: command_s, turns, tokens, session_s, memory_mb, pids, …",
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        if len(self.asked) != 1:
            raise ValueError(f"ask for exactly one of {', '.join(_POWERS)}")
        if self.to is not None and self.host_path is None:
            raise ValueError("`to` goes with host_path")
        return self

    @property
    def asked(self) -> list[Kind]:
        return [kind for kind in _POWERS if getattr(self, kind) is not None]


def access(arguments: Sudo, cwd: str) -> Access:
    if arguments.root is not None:
        return Access(writes=("/", "jobs"), command=arguments.root.command)
    if arguments.network is not None:
        return Access(writes=("network",), host=_endpoint(arguments.network)[0])
    if arguments.host_path is not None:
        place = resolve(arguments.to or default_place(arguments.host_path), cwd)
        return Access(writes=(place,), path=arguments.host_path)
    return Access(writes=("limits",) if arguments.limits is not None else ("secrets",))


async def sudo(context: Context, arguments: Sudo) -> Outcome:
    kind = arguments.asked[0]
    may_ask = context.policy.sudo.may_ask
    if kind not in may_ask:
        can = f"it may be asked for {', '.join(may_ask)}" if may_ask else "nothing can be asked for"
        raise Refused(
            "denied",
            f"denied: policy {context.policy.name} does not let the user be asked for {kind} "
            f"(sudo.may_ask); {can}. Do without it, or say in your answer what you would need.",
        )
    return await _POWERS[kind](context, arguments)


async def _network(context: Context, arguments: Sudo) -> Outcome:
    assert arguments.network is not None
    host, port = _endpoint(arguments.network)
    if context.outlet is None:
        raise Refused("denied", f"denied: policy {context.policy.name} gives this session no way out at all.")
    reach = decide_connection(context.policy, host, port)
    if reach.action == "allow":
        return Outcome(f"{endpoint(host, port)} is allowed already ({reach.rule}); nobody was asked.")
    if reach.action == "deny" and reach.rule != "network.allow":
        raise Refused("denied", f"denied by the policy, {reach.rule}: {reach.reason} Nobody was asked.")
    petition = network_petition(host, port, arguments.reason)
    approval = await consent(context, petition)
    if approval.answer.scope == "once":
        context.outlet.grant(host, port, once=True)
        return Outcome(
            f"granted: the next command that connects to {endpoint(host, port)} may, and no later one. "
            "Programs use the proxy that the environment names."
        )
    return Outcome(
        f"granted: {endpoint(host, port)} can be reached, by the proxy that the environment names."
    )


async def _root(context: Context, arguments: Sudo) -> Outcome:
    assert arguments.root is not None
    command = arguments.root.command
    cwd = resolve(arguments.root.cwd, context.cwd) if arguments.root.cwd else context.cwd
    tools = await find_tools(context.session, context.sandbox)
    if tools.shell is None:
        raise Refused("not_found", "this image has neither bash nor sh to run a command as root with")
    capabilities = ", ".join(context.policy.container.capabilities) or "none"

    async def again() -> Mapping[str, object]:
        seen = await look(
            context.sandbox, command, cwd, "root", programs=context.policy.container.writable_root
        )
        return {**seen.bound, "capabilities": capabilities}

    seen = await look(context.sandbox, command, cwd, "root", programs=context.policy.container.writable_root)
    standing: tuple[Scope, ...] = ("session", "minutes") if seen.plain and seen.whole else ()
    petition = Petition(
        kind="root",
        subject=command,
        facts=(*seen.facts, ("capabilities", capabilities)),
        said=arguments.reason,
        bound={**seen.bound, "capabilities": capabilities},
        offers=("once", *standing),
    )
    await consent(context, petition, again)
    timeout_s = max(0.001, min(context.limits.command_s, context.session.budget.remaining_s()))
    try:
        done = await context.sandbox.run(
            Command(
                argv=(tools.shell, "-c", command),
                cwd=cwd,
                timeout_s=timeout_s,
                user="root",
                output_bytes=context.limits.output_bytes,
            )
        )
    except ValueError as exc:
        raise Refused("bad_arguments", f"root: {exc}") from exc
    except PermissionError as exc:
        text = f"root, with the capabilities it has ({capabilities}), may not enter {cwd}; name another cwd"
        raise Refused("permission", f"{text}, such as /") from exc
    # It ran to its end here, so the sandbox keeps no record of it to be released.
    return replace(outcome(done, timeout_s, context.exec_id), held=None)


async def _secret(context: Context, arguments: Sudo) -> Outcome:
    name = arguments.secret
    secret = next((one for one in context.policy.secrets.bound if one.name == name), None)
    if secret is None or context.outlet is None:
        names = ", ".join(one.name for one in context.policy.secrets.bound) or "none"
        raise Refused("not_found", f"this session has no such secret; there are: {names}")
    if not context.policy.network.intercept:
        text = f"{secret.name} cannot be used: the policy does not look into TLS (network.intercept)"
        raise Refused("denied", f"{text}, so its value could not be put in place. Nobody was asked.")
    if not secret.ask:
        return Outcome(f"{secret.name} can be used already, toward {secret.host}; nobody was asked.")
    petition = Petition(
        kind="secret",
        subject=f"{secret.name} to {secret.host}",
        facts=(
            ("secret", secret.name),
            ("sent to", secret.host),
            ("in the header", secret.header),
            ("by", "any program of the session; the value itself stays outside"),
        ),
        said=arguments.reason,
        bound={"name": secret.name, "host": secret.host, "header": secret.header},
        offers=("session", "minutes"),
    )
    await consent(context, petition)
    return Outcome(
        f"granted: ${secret.name} holds a stand-in; toward {secret.host}, in the header {secret.header}, the "
        "real value takes its place."
    )


def _endpoint(said: str) -> tuple[str, int]:
    try:
        name, port = split_entry(said)
    except ValueError as exc:
        raise Refused("bad_arguments", f"network: {exc}") from exc
    host = canonical_host(name)
    if host is None or port is None:
        raise Refused("bad_arguments", "network: give one host and one port, `example.org:443`")
    return host, port


_POWERS: Mapping[Kind, Callable[[Context, Sudo], Awaitable[Outcome]]] = {
    "network": _network,
    "root": _root,
    "secret": _secret,
    "host_path": lambda context, given: host_path(context, given.host_path or "", given.to, given.reason),
    "limits": lambda context, given: limits(context, given.limits or {}, given.reason),
}
