"""Programs that print, copy and shape text."""

from __future__ import annotations

import errno
import os
import re

from sandbox.memory.files import failure
from sandbox.memory.processes import GuestProcess
from sandbox.memory.programs.escapes import unescape
from sandbox.memory.programs.options import counted, usage
from sandbox.memory.streams import PIPE_BYTES


async def echo(process: GuestProcess) -> int:
    words = process.argv[1:]
    newline = words[:1] != ["-n"]
    await process.out(" ".join(words if newline else words[1:]) + ("\n" if newline else ""))
    return 0


async def printf(process: GuestProcess) -> int:
    text, arguments = process.argv[1], process.argv[2:]
    if text == "--":
        text, arguments = process.argv[2], process.argv[3:]
    while True:
        rest = iter(arguments)
        used = 0

        def convert(match: re.Match[str], rest: list[str] = arguments) -> str:
            nonlocal used
            flags, kind = match[1], match[2]
            if kind == "%":
                return "%"
            value = rest[used] if used < len(rest) else ""
            used += 1
            if kind in "dxo":
                return f"%{flags}{kind}" % int(value or "0", 0)
            if kind == "c":
                return value[:1]
            return f"%{flags}s" % (unescape(value, "0[0-7]{0,3}|[1-7][0-7]{0,2}") if kind == "b" else value)

        pieces = re.split(r"(%[-+ 0#]*\d*(?:\.\d+)?[%sdxocb])", text)
        shaped = [
            re.sub(r"%([-+ 0#]*\d*(?:\.\d+)?)([%sdxocb])", convert, piece) if index % 2 else unescape(piece)
            for index, piece in enumerate(pieces)
        ]
        del rest
        await process.out(os.fsdecode(os.fsencode("".join(shaped))))
        arguments = arguments[used:]
        if not arguments or not used:
            return 0


async def cat(process: GuestProcess) -> int:
    status = 0
    for name in process.argv[1:] or ["-"]:
        try:
            if name != "-":
                process.take_input(name)
                if process.files.get(name, process.cwd).kind == "directory":
                    raise failure(errno.EISDIR, name)
            while data := await process.read():
                await process.out(data)
        except BrokenPipeError:
            raise
        except OSError as exc:
            await process.err(f"cat: {name}: {exc.strerror}\n")
            status = 1
    return status


async def head(process: GuestProcess) -> int:
    kind, number, words = counted(process.argv[1:])
    count = int(number)
    if words:
        process.take_input(words[0])
    while count > 0:
        data = await process.read(min(count, PIPE_BYTES) if kind == "c" else 512)
        if not data:
            break
        if kind == "n":
            lines = data.split(b"\n")
            data = b"\n".join(lines[:count]) + b"\n" * (len(lines) > count)
            count -= len(lines) - 1
        else:
            count -= len(data)
        await process.out(data)
    return 0


async def tail(process: GuestProcess) -> int:
    kind, count, words = counted(process.argv[1:])
    if words:
        process.take_input(words[0])
    data = await process.read_all()
    if kind == "c":
        await process.out(data[int(count) - 1 :] if count.startswith("+") else data[-int(count) :])
        return 0
    lines = data.splitlines(keepends=True)
    await process.out(b"".join(lines[int(count) - 1 :] if count.startswith("+") else lines[-int(count) :]))
    return 0


async def wc(process: GuestProcess) -> int:
    words = process.argv[1:]
    flag = words.pop(0) if words and words[0].startswith("-") else ""
    if flag not in ("-c", "-l", "-w"):
        return await usage(process)
    if words:
        process.take_input(words[0])
    count = 0
    while data := await process.read():
        count += len(data) if flag == "-c" else data.count(b"\n") if flag == "-l" else len(data.split())
    await process.out(f"{count} {words[0]}\n" if words else f"{count}\n")
    return 0


async def tr(process: GuestProcess) -> int:
    words = process.argv[1:]
    delete = words[:1] == ["-d"]
    first = span(words[1 if delete else 0])
    second = b"" if delete else span(words[1])
    second += second[-1:] * (len(first) - len(second))
    table = bytes.maketrans(first, second[: len(first)]) if not delete else None
    while data := await process.read():
        await process.out(data.translate(table, first if delete else b""))
    return 0


def span(text: str) -> bytes:
    """A set of bytes as `tr` writes it: escapes and ranges."""
    raw = os.fsencode(unescape(text))
    return re.sub(rb"(.)-(.)", lambda match: bytes(range(match[1][0], match[2][0] + 1)), raw, flags=re.DOTALL)


async def tee(process: GuestProcess) -> int:
    outputs = [process.open(path, "w") for path in process.argv[1:]]
    while data := await process.read():
        await process.out(data)
        for output in outputs:
            await output.write(data)
    return 0


async def yes(process: GuestProcess) -> int:
    line = os.fsencode(" ".join(process.argv[1:] or ["y"])) + b"\n"
    block = line * max(1, 16_384 // len(line))
    while True:
        await process.out(block)
