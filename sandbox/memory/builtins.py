"""Commands the double's shell runs itself, since they change the shell; and the shell as a program."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
from typing import Any

from sandbox.memory.control import Exit, Jump
from sandbox.memory.files import failure
from sandbox.memory.launch import code_of, find_program
from sandbox.memory.parser import parse
from sandbox.memory.processes import GuestProcess
from sandbox.memory.shell import IN_SHELL, Builtin, Shell


async def sh(process: GuestProcess) -> int:
    """`sh [-e] [-c text [name [argument…]] | file [argument…]]`; else standard input is the script."""
    arguments = process.argv[1:]
    flags = ""
    while arguments and arguments[0].startswith("-") and len(arguments[0]) > 1:
        flags += arguments.pop(0)[1:]
    if set(flags) - set("ceulx"):
        raise NotImplementedError(f"the double's sh has no option among {flags!r}")
    name = "sh"
    if "c" in flags:
        text = arguments.pop(0)
        name = arguments.pop(0) if arguments else name
    elif arguments:
        name = arguments.pop(0)
        text = os.fsdecode(bytes(process.files.get(name, process.cwd).data))
    else:
        text = os.fsdecode(await process.read_all())
    shell = Shell(process, name, arguments, errexit="e" in flags, builtins=BUILTINS)
    shell.variables["$"] = str(process.pid)
    return await shell.main(text)


async def cd(shell: Shell, argv: list[str]) -> int:
    target = argv[1] if len(argv) > 1 else shell.lookup("HOME") or "/"
    node = shell.process.files.get(target, shell.process.cwd)
    if node.kind != "directory":
        raise failure(errno.ENOTDIR, target)
    if not node.may(1):
        raise failure(errno.EACCES, target)
    shell.process.cwd = os.path.normpath(os.path.join(shell.process.cwd, target))  # noqa: PTH118
    shell.assign("PWD", shell.process.cwd)
    return 0


async def leave(shell: Shell, argv: list[str]) -> int:
    raise Exit(int(argv[1]) & 0xFF if len(argv) > 1 else shell.last)


async def jump(shell: Shell, argv: list[str]) -> int:
    default = shell.last if argv[0] == "return" else 1
    raise Jump(argv[0], int(argv[1]) if len(argv) > 1 else default)


async def export(shell: Shell, argv: list[str]) -> int:
    for argument in argv[1:]:
        name, equals, value = argument.partition("=")
        if equals:
            shell.assign(name, value)
        shell.exported.add(name)
    return 0


async def unset(shell: Shell, argv: list[str]) -> int:
    for name in argv[1:]:
        shell.variables.pop(name, None)
        shell.process.env.pop(name, None)
    return 0


async def read(shell: Shell, argv: list[str]) -> int:
    names = [name for name in argv[1:] if name != "-r"] or ["REPLY"]
    line = bytearray()
    while (byte := await shell.process.read(1)) not in (b"", b"\n"):
        line += byte
    values = os.fsdecode(bytes(line)).split(None, len(names) - 1)
    for name, value in zip(names, values + [""] * len(names), strict=False):
        shell.assign(name, value.rstrip())
    return int(not byte)


async def wait(shell: Shell, argv: list[str]) -> int:
    status = 0
    pids = [int(argument) for argument in argv[1:]] or list(shell.children)
    for pid in pids:
        child = shell.children.get(pid)
        if child is None:
            return 127
        signalled = asyncio.ensure_future(shell.signalled.wait())
        waited: set[asyncio.Future[Any]] = {child.status, signalled}
        try:
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        finally:
            signalled.cancel()
        if shell.pending:
            return 128 + shell.pending[0]
        status = code_of(child.status.result())
        del shell.children[pid]
    return status if argv[1:] else 0


async def trap(shell: Shell, argv: list[str]) -> int:
    if len(argv) == 1:
        for number in sorted(shell.process.ignored):
            await shell.process.out(f"trap -- '' {signal.Signals(number).name[3:]}\n")
        return 0
    action, *names = argv[1:]
    for name in names:
        number = signal_number(name)
        shell.traps.pop(number, None)
        shell.process.ignored.discard(number)
        if action == "":
            shell.process.ignored.add(number)
        elif action != "-":
            shell.traps[number] = action
    return 0


async def set_options(shell: Shell, argv: list[str]) -> int:
    for index, argument in enumerate(argv[1:], 1):
        if argument == "--":
            shell.arguments = argv[index + 1 :]
            return 0
        if argument[:1] not in "-+":
            shell.arguments = argv[index:]
            return 0
        if set(argument[1:]) - set("eux"):
            raise NotImplementedError(f"the double's shell has no `set {argument}`")
        if "e" in argument:
            shell.errexit = argument[0] == "-"
    return 0


async def shift(shell: Shell, argv: list[str]) -> int:
    del shell.arguments[: int(argv[1]) if len(argv) > 1 else 1]
    return 0


async def evaluate(shell: Shell, argv: list[str]) -> int:
    return await shell.run(parse(" ".join(argv[1:])))


async def umask(shell: Shell, argv: list[str]) -> int:
    if len(argv) > 1:
        shell.process.umask = int(argv[1], 8)
    else:
        await shell.process.out(f"{shell.process.umask:04o}\n")
    return 0


async def nothing(shell: Shell, argv: list[str]) -> int:
    return 0


async def command(shell: Shell, argv: list[str]) -> int:
    """`command -v name`: where it is, or 127."""
    if argv[1:2] != ["-v"]:
        raise NotImplementedError("the double's shell has only `command -v`")
    name = argv[2]
    try:
        known = name in shell.builtins or name in shell.functions or name in IN_SHELL
        await shell.process.out((name if known else find_program(shell.process, name)) + "\n")
    except OSError:
        return 127
    return 0


BUILTINS: dict[str, Builtin] = {
    ":": nothing,
    "break": jump,
    "cd": cd,
    "command": command,
    "continue": jump,
    "eval": evaluate,
    "exec": nothing,
    "exit": leave,
    "export": export,
    "read": read,
    "return": jump,
    "set": set_options,
    "shift": shift,
    "trap": trap,
    "umask": umask,
    "unset": unset,
    "wait": wait,
}


def signal_number(name: str) -> int:
    """`9`, `KILL`, `SIGKILL` or `EXIT` as a number."""
    if name.isdigit():
        return int(name)
    name = name.upper().removeprefix("SIG")
    return 0 if name == "EXIT" else int(signal.Signals[f"SIG{name}"])
