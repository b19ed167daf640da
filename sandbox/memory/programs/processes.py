"""Programs about processes: how they begin, wait and end, and who they are."""

from __future__ import annotations

import asyncio
import signal

from sandbox.memory.builtins import signal_number
from sandbox.memory.launch import execute
from sandbox.memory.processes import GuestProcess
from sandbox.memory.programs.options import usage
from sandbox.memory.terminal import Terminal


async def true(process: GuestProcess) -> int:
    return 0


async def false(process: GuestProcess) -> int:
    return 1


async def sleep(process: GuestProcess) -> int:
    await asyncio.sleep(sum(float(word.removesuffix("s")) for word in process.argv[1:]))
    return 0


async def env(process: GuestProcess) -> int:
    """`env [-i] [NAME=value…] [command…]`."""
    words = process.argv[1:]
    environment = dict(process.env)
    if words[:1] == ["-i"]:
        environment.clear()
        del words[0]
    while words and "=" in words[0]:
        name, _, value = words.pop(0).partition("=")
        environment[name] = value
    process.env = environment
    if words:
        process.argv = words
        return await execute(process)
    await process.out("".join(f"{name}={value}\n" for name, value in environment.items()))
    return 0


async def pwd(process: GuestProcess) -> int:
    await process.out(process.cwd + "\n")
    return 0


async def identity(process: GuestProcess) -> int:
    if process.argv[1:] not in (["-u"], ["-g"]):
        return await usage(process)
    await process.out("1000\n")
    return 0


async def stty(process: GuestProcess) -> int:
    terminal = process.stream(0)
    if not isinstance(terminal, Terminal):
        await process.err("stty: standard input: Inappropriate ioctl for device\n")
        return 1
    if process.argv[1:] == ["size"]:
        await process.out(f"{terminal.rows} {terminal.columns}\n")
        return 0
    return await usage(process)


async def kill(process: GuestProcess) -> int:
    words = process.argv[1:]
    number = int(signal.SIGTERM)
    if words[:1] == ["-s"]:
        number = signal_number(words[1])
        words = words[2:]
    elif words and words[0].startswith("-"):
        number = signal_number(words.pop(0)[1:])
    status = 0
    for word in words:
        if word == "--":
            continue
        pid = int(word)
        system = process.system
        if pid > 0:
            targets = [system.processes[pid]] if pid in system.processes else []
        elif pid == -1:
            targets = [one for one in system.processes.values() if one is not process]
        else:
            targets = list(system.of_group(-pid if pid else process.group))
        if not targets:
            await process.err(f"kill: {word}: No such process\n")
            status = 1
        for target in targets:
            target.deliver(number)
    # A signal to oneself arrives here, before the next command.
    await asyncio.sleep(0)
    return status


async def setsid(process: GuestProcess) -> int:
    process.session = process.group = process.pid
    process.argv = [word for word in process.argv[1:] if word != "-w"]
    return await execute(process)


async def nohup(process: GuestProcess) -> int:
    process.ignored.add(signal.SIGHUP)
    process.argv = process.argv[1:]
    return await execute(process)
