"""The petition for a call that the policy's rules ask about."""

from __future__ import annotations

import json
from collections.abc import Mapping

from harness.approvals.petition import Facts, Petition, Scope
from harness.approvals.remembered import lasting
from harness.approvals.service import Again
from harness.messages import Call
from harness.syscalls.base import Access
from harness.syscalls.bound import BoundCommand, look, look_at
from harness.visible import visible
from policies.decide import Decision
from policies.schema import Policy
from sandbox.protocol import Sandbox

_STANDING: tuple[Scope, ...] = ("once", "session", "minutes")


async def about_call(
    box: Sandbox, policy: Policy, call: Call, access: Access, decision: Decision, cwd: str
) -> tuple[Petition, Again]:
    """What the user is asked about a call, and how to look again at all that it touches.

    Raises SandboxError.
    """
    why = ("asked by", f"{decision.rule}: {decision.reason}")
    if access.command is not None:
        command, cwd = access.command, access.cwd or cwd
        user = "root" if policy.container.user == "root" else "the sandbox user"

        async def again() -> Mapping[str, object]:
            found = await look(box, command, cwd, user, programs=policy.container.writable_root)
            return {**found.bound, "arguments": _rest(call)}

        seen = await look(box, command, cwd, user, programs=policy.container.writable_root)
        facts = (("call", call.name), *seen.facts, *_shown(_rest(call)), why)
        bound = {**seen.bound, "arguments": _rest(call)}
        return Petition("call", command, facts, "", bound, call.id, _offers(seen)), again

    async def again_file() -> Mapping[str, object]:
        return {"call": call.name, "arguments": call.arguments, "cwd": cwd, "files": await _file(box, access)}

    files = await _file(box, access)
    paths = (("path", access.path), *(("now", digest) for digest in files.values())) if access.path else ()
    facts = (("call", call.name), *paths, *_shown(call.arguments), ("in", cwd), why)
    bound = {"call": call.name, "arguments": call.arguments, "cwd": cwd, "files": files}
    subject = f"{call.name} {access.path or json.dumps(call.arguments)[:200]}"
    plain = all(visible(value, multiline=True) == value for _, value in facts)
    return Petition("call", subject, facts, "", bound, call.id, _STANDING if plain else ("once",)), again_file


def _offers(seen: BoundCommand) -> tuple[Scope, ...]:
    """An answer stands for other calls only where it is clear what they would be."""
    if not (seen.plain and seen.whole):
        return ("once",)
    return (*_STANDING, "always") if lasting(seen.command) else _STANDING


def _rest(call: Call) -> dict[str, object]:
    """Arguments of a command's call beside what is bound of the command already."""
    return {name: value for name, value in call.arguments.items() if name not in ("command", "cwd")}


def _shown(arguments: Mapping[str, object]) -> Facts:
    return tuple(
        (name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        for name, value in arguments.items()
        if name not in ("path", "cwd")
    )


async def _file(box: Sandbox, access: Access) -> dict[str, str]:
    digest = None if access.path is None else await look_at(box, access.path)
    return {} if digest is None or access.path is None else {access.path: digest}
