"""What cannot be asked of a sandbox, whatever is in it: ValueError says why."""

from __future__ import annotations

import os
import re

from sandbox.protocol import Command

ARGUMENT_BYTES = 128 << 10
ENVIRONMENT_BYTES = 128 << 10


def check_command(command: Command) -> None:
    if not command.argv or not command.argv[0]:
        raise ValueError("a command needs a program")
    if sum(len(os.fsencode(word)) + 1 for word in command.argv) > ARGUMENT_BYTES:
        raise ValueError(f"over {ARGUMENT_BYTES} bytes of arguments")
    if sum(len(os.fsencode(name + value)) + 2 for name, value in command.env.items()) > ENVIRONMENT_BYTES:
        raise ValueError(f"over {ENVIRONMENT_BYTES} bytes of environment")
    if any(not name or "=" in name for name in command.env):
        raise ValueError("an environment name is empty or has '=' in it")
    if any("\0" in text for text in (*command.argv, *command.env, *command.env.values())):
        raise ValueError("a NUL byte in an argument or in the environment")
    if command.cwd is not None:
        checked_path(command.cwd)
    if command.call_id is not None and not re.fullmatch(r"[0-9a-f]{16}", command.call_id):
        raise ValueError("a call id is 16 hex digits")


def checked_port(port: int) -> None:
    if not 1 <= port <= 65_535:
        raise ValueError(f"a port is from 1 to 65535, not {port}")


def checked_path(path: str) -> str:
    if not path.startswith("/") or "\0" in path:
        raise ValueError(f"{path!r} is not an absolute path")
    os.fsencode(path)
    return path
