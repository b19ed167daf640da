"""What a command asks of init: from the surface's `Command` to what SPAWN carries, checked on the way."""

from __future__ import annotations

import re
from collections.abc import Mapping

from policies import Policy
from sandbox.errors import SandboxRefused
from sandbox.hardening import WORKSPACE
from sandbox.protocol import Command
from sandbox.wire.frames import SpawnFlag
from sandbox.wire.payloads import Spawn

STDIN_INLINE = 32_768
"""Of standard input, this much goes with the request itself."""
_CALL_ID = re.compile(r"[0-9a-f]{16}", re.ASCII)


def spawn_of(
    command: Command, policy: Policy, environment: Mapping[str, bytes], *, carried: bool = False
) -> Spawn:
    """ValueError for what cannot be asked for, SandboxRefused for what the policy does not give.

    `environment` is what every command starts with: by name, `NAME=value`.
    """
    limits = policy.limits
    own = "root" if policy.container.user == "root" else "sandbox"
    if command.user not in (None, own):
        raise SandboxRefused(
            f"commands of this sandbox run as {own!r}; its policy does not give {command.user!r}"
        )
    if command.tty is None and not 2 <= command.output_bytes <= 16 << 20:
        raise ValueError("output_bytes is between 2 and 16 MiB")
    timeout_s = limits.command_s if command.timeout_s is None else command.timeout_s
    if not 0 < timeout_s <= 7 * 86_400:
        raise ValueError("timeout_s is above 0 and at most a week")
    if command.env:
        if any("=" in name or not name for name in command.env):
            raise ValueError("an environment variable has a name, without `=`")
        given = {name: encoded(f"{name}={value}") for name, value in command.env.items()}
        environment = {**environment, **given}
    flags = SpawnFlag.CARRY if carried else 0
    inline = b""
    rows, columns = command.tty or (0, 0)
    if command.tty is not None:
        flags |= SpawnFlag.TTY
        if "TERM" not in command.env:
            environment = {**environment, "TERM": b"TERM=xterm-256color"}
    if command.stdin is None or len(command.stdin) > STDIN_INLINE:
        flags |= SpawnFlag.STDIN
    else:
        inline = command.stdin
        flags |= SpawnFlag.STDIN_EOF
    return Spawn(
        argv=[word.encode("utf-8", "surrogateescape") for word in command.argv],
        cwd=_absolute(command.cwd or WORKSPACE),
        env=list(environment.values()),
        flags=flags,
        timeout_ms=max(1, round(timeout_s * 1000)),
        grace_ms=round(limits.grace_s * 1000),
        output_bytes=max(2, command.output_bytes),
        spill_bytes=limits.spill_bytes,
        rows=rows,
        columns=columns,
        stdin=inline,
    )


def number_of(call_id: str) -> int:
    """A call's id as the wire has it. ValueError for what is none."""
    if not _CALL_ID.fullmatch(call_id):
        raise ValueError(f"a call id is 16 lower-case hex digits, not {call_id!r}")
    number = int(call_id, 16)
    if number < 1 << 32:
        raise ValueError("a call id is at least 2**32: lower numbers are the wire's own")
    return number


def encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _absolute(path: str) -> bytes:
    if not path.startswith("/"):
        raise ValueError(f"{path!r} is not an absolute path inside the sandbox")
    return encoded(path)
