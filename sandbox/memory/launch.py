"""Becoming a program: looked up as `execvp` does, 127 where there is none and 126 where it cannot be run."""

from __future__ import annotations

import errno
import os

from sandbox.memory.files import failure
from sandbox.memory.processes import GuestProcess


def code_of(status: int) -> int:
    """`$?` of a process."""
    return 128 - status if status < 0 else status


def find_program(process: GuestProcess, name: str) -> str:
    """Where a command is; FileNotFoundError or PermissionError as `execvp` has it."""
    if "/" in name:
        return name
    denied = False
    for directory in process.env.get("PATH", "/bin").split(":"):
        path = f"{directory or '.'}/{name}"
        try:
            node = process.files.get(path, process.cwd)
        except OSError:
            continue
        if node.kind == "file" and node.may(1):
            return path
        denied = True
    raise failure(errno.EACCES if denied else errno.ENOENT, name)


async def execute(process: GuestProcess) -> int:
    """Become the program `argv` names: 127 when there is none, 126 when it cannot be run."""
    name = process.argv[0]
    try:
        path = find_program(process, name)
        node = process.files.get(path, process.cwd)
    except FileNotFoundError:
        await process.err(f"{name}: not found\n")
        return 127
    except OSError as exc:
        await process.err(f"{name}: {exc.strerror}\n")
        return 126
    if node.kind != "file" or not node.may(1):
        await process.err(f"{name}: Permission denied\n")
        return 126
    if node.program is not None:
        return await node.program(process)
    if not node.data.startswith(b"#!"):
        await process.err(f"{name}: Exec format error\n")
        return 126
    interpreter = os.fsdecode(bytes(node.data[2:].split(b"\n", 1)[0])).split()
    process.argv = [*interpreter, path, *process.argv[1:]]
    return await execute(process)
