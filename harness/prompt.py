"""The system prompt: where the model is and how refusals read. The same bytes for the same policy."""

from __future__ import annotations

import re
import textwrap

from policies.schema import Policy

_PRIVATE = """\
The user's files are a private copy in /workspace; the user
reviews what changed there and decides what to keep. Nothing else of the user's machine is within reach."""
_BOUND = """\
/workspace is the user's own directory: what you write
or delete there is done at once and for good. Nothing else of the user's machine is within reach."""

_TEXT = """\
You work on a task in a contained Linux session. {files}

- You act by calling the tools you are given. Independent calls may go into one message: they run together
  where they do not touch the same files, and their results come in the order of the calls.
- Relative paths start at the working directory, which is /workspace at first.
{network}
- Only {writable} can be written. What is not in /workspace is gone when the session ends.
- A command has {command_s:g} s, and after {yield_s:g} s it goes on as a job. Nobody is there to answer what a
  program asks.{sudo}
- A result with an error says what happened and what to do next. `denied` means that the policy forbids it:
  repeating or disguising the call does not help.
- When the task is done, check your work, then answer without calls: what you changed, how you know that it
  works, what is left open. If it cannot be done, say so plainly.
"""


_NO_NETWORK = "- There is no network. Do not look for a way around that: there is none."
_NETWORK = """\
- The network is reached through the proxy that the environment names, and only so: programs that know
  HTTP_PROXY, HTTPS_PROXY or ALL_PROXY use it by themselves. Allowed: {hosts}.{otherwise}"""
_SUDO = """
- `sudo` asks the user for what is missing: {kinds}. Ask only when the task needs it, and say why; the
  answer may be no, and then do without."""
_KINDS = {
    "network": "a host to reach",
    "root": "a command as root",
    "secret": "the use of a secret ({secrets})",
    "host_path": "a copy of a file of the user's machine",
    "limits": "higher limits",
}
SHOWN_HOSTS = 20


def _network(policy: Policy) -> str:
    network = policy.network
    hosts = list(network.allow) + [
        rule.when.host
        for rule in policy.rules
        if rule.action == "allow" and rule.syscall == "network" and rule.when.host is not None
    ]
    can_ask = "network" in policy.sudo.may_ask
    if not (hosts or network.ask or can_ask):
        return _NO_NETWORK
    shown = ", ".join(hosts[:SHOWN_HOSTS]) or "nothing so far"
    if len(hosts) > SHOWN_HOSTS:
        shown += f" and {len(hosts) - SHOWN_HOSTS} more"
    otherwise = ""
    if network.ask:
        otherwise = " Another host is put to the user when a program connects to it, which then waits."
    elif can_ask:
        otherwise = " Another host is refused until the user allows it (`sudo`)."
    return _NETWORK.format(hosts=shown, otherwise=otherwise)


def _sudo(policy: Policy) -> str:
    secrets = [secret.name for secret in policy.secrets.bound if secret.ask]
    without = set()
    if not secrets:
        without.add("secret")
    if not policy.sudo.host_paths:
        without.add("host_path")
    kinds = [
        _KINDS[kind].format(secrets=", ".join(secrets)) for kind in policy.sudo.may_ask if kind not in without
    ]
    return _SUDO.format(kinds="; ".join(kinds)) if kinds else ""


def system_prompt(policy: Policy) -> str:
    """Short on purpose: what each syscall does stands in its own description."""
    home = "/workspace, /tmp and the home directory"
    text = _TEXT.format(
        network=_network(policy),
        sudo=_sudo(policy),
        files=_BOUND if policy.workspace.mode == "bind" else _PRIVATE,
        writable=f"{home}, and the system files where the user may,"
        if policy.container.writable_root
        else home,
        command_s=policy.limits.command_s,
        yield_s=policy.limits.yield_s,
    )
    return _wrapped(text)


def _wrapped(text: str) -> str:
    """Each bullet and paragraph in lines of one width, whatever was put into it."""
    parts = re.split(r"\n(?=-|\n)", text)
    indents = ("  " if part.startswith("-") else "" for part in parts)
    filled = (
        textwrap.fill(" ".join(part.split()), 110, subsequent_indent=indent)
        for part, indent in zip(parts, indents, strict=True)
    )
    return "\n".join(filled) + "\n"
