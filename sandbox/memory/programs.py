"""The double's commands: the few a test needs, with the options those tests use and no others.

An option that is not known ends the command with status 2 and a line on stderr; nothing is quietly ignored.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import signal
import stat

from sandbox.memory.builtins import sh, signal_number
from sandbox.memory.files import Node, Program, failure
from sandbox.memory.launch import execute
from sandbox.memory.processes import PIPE_BYTES, GuestProcess

ESCAPES = {
    "n": "\n",
    "t": "\t",
    "r": "\r",
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "v": "\v",
    "\\": "\\",
    '"': '"',
    "'": "'",
}


async def usage(process: GuestProcess) -> int:
    await process.err(f"{process.argv[0]}: the double does not know {process.argv[1:]!r}\n")
    return 2


def unescape(text: str, octal: str = r"[0-7]{1,3}") -> str:
    """Backslash escapes; a byte above 127 travels as a surrogate, as in every name and argument."""

    def one(match: re.Match[str]) -> str:
        found = match[1]
        if found[0] in "01234567":
            return os.fsdecode(bytes([int(found, 8) & 0xFF]))
        return ESCAPES.get(found, "\\" + found)

    # Bytes joined to characters again: \303\251 is one é.
    return os.fsdecode(os.fsencode(re.sub(rf"\\({octal}|.)", one, text, flags=re.DOTALL)))


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
                process.streams[0].close()
                process.streams[0] = process.open(name, "r")
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


async def head(process: GuestProcess) -> int:
    words = process.argv[1:]
    kind, count = "-n", 10
    if words and words[0].startswith("-"):
        option = words.pop(0)
        kind = option[:2] if option[1] in "nc" else "-n"
        count = int(
            option[2:]
            if option[1] in "nc" and option[2:]
            else words.pop(0)
            if option[1] in "nc"
            else option[1:]
        )
    if words:
        process.streams[0].close()
        process.streams[0] = process.open(words[0], "r")
    while count > 0:
        data = await process.read(min(count, PIPE_BYTES) if kind == "-c" else 512)
        if not data:
            break
        if kind == "-n":
            lines = data.split(b"\n")
            data = b"\n".join(lines[:count]) + b"\n" * (len(lines) > count)
            count -= len(lines) - 1
        else:
            count -= len(data)
        await process.out(data)
    return 0


async def tail(process: GuestProcess) -> int:
    words = process.argv[1:]
    kind, count = "-n", "10"
    if words and words[0][:2] in ("-n", "-c"):
        kind, count = words[0][:2], words[0][2:]
        del words[0]
        count = count or words.pop(0)
    if words:
        process.streams[0].close()
        process.streams[0] = process.open(words[0], "r")
    data = await process.read_all()
    if kind == "-c":
        await process.out(data[int(count) - 1 :] if count.startswith("+") else data[-int(count) :])
        return 0
    lines = data.splitlines(keepends=True)
    await process.out(b"".join(lines[int(count) - 1 :] if count.startswith("+") else lines[-int(count) :]))
    return 0


async def dd(process: GuestProcess) -> int:
    given = dict(word.split("=", 1) for word in process.argv[1:])
    if set(given) - {"if", "of", "bs", "count", "seek", "conv", "status"}:
        return await usage(process)
    size = amount(given.get("bs", "512"))
    count = amount(given["count"]) if "count" in given else None
    if "if" in given:
        process.streams[0].close()
        process.streams[0] = process.open(given["if"], "r")
    if "of" in given:
        process.streams[1].close()
        process.streams[1] = process.open(given["of"], "+")
        node = process.files.get(given["of"], process.cwd)
        if node.kind == "file" and "conv" not in given:
            node.truncate(amount(given.get("seek", "0")) * size)
    done = 0
    while count is None or done < count:
        data = await process.read(size)
        if not data:
            break
        await process.out(data)
        done += 1
    await process.err(f"{done}+0 records out\n")
    return 0


def amount(text: str) -> int:
    unit = {"k": 1 << 10, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(text[-1:], 1)
    return int(text.rstrip("kKMG")) * unit


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


async def mkdir(process: GuestProcess) -> int:
    parents = "-p" in process.argv
    for path in (word for word in process.argv[1:] if word not in ("-p", "--")):
        steps = [path]
        if parents:
            whole = [part for part in path.split("/") if part]
            start = "/" if path.startswith("/") else ""
            steps = [start + "/".join(whole[: index + 1]) for index in range(len(whole))]
        for step in steps:
            found = process.files.locate(step, process.cwd)[2]
            if not (parents and found is not None and found.kind == "directory"):
                process.files.create(step, Node("directory", 0o777 & ~process.umask), process.cwd)
    return 0


async def ln(process: GuestProcess) -> int:
    words = process.argv[1:]
    flags = ""
    while words and words[0].startswith("-"):
        word = words.pop(0)
        if word == "--":
            break
        flags += word[1:]
    if set(flags) - set("sfn") or len(words) != 2:
        return await usage(process)
    source, target = words
    if "f" in flags and process.files.locate(target, process.cwd, follow=False)[2] is not None:
        process.files.remove(target, process.cwd)
    node = Node("symlink", 0o777, target=source) if "s" in flags else process.files.get(source, process.cwd)
    process.files.create(target, node, process.cwd)
    return 0


async def mkfifo(process: GuestProcess) -> int:
    for path in process.argv[1:]:
        process.files.create(path, Node("fifo", 0o666 & ~process.umask), process.cwd)
    return 0


async def chmod(process: GuestProcess) -> int:
    mode, *paths = process.argv[1:]
    for path in paths:
        node = process.files.get(path, process.cwd)
        if not node.owned:
            raise failure(errno.EPERM, path)
        if mode in ("+x", "a+x"):
            node.mode |= 0o111
        elif mode.isdigit():
            node.mode = int(mode, 8)
        else:
            return await usage(process)
    return 0


async def rm(process: GuestProcess) -> int:
    words = process.argv[1:]
    flags = ""
    while words and words[0].startswith("-"):
        word = words.pop(0)
        if word == "--":
            break
        flags += word[1:]
    for path in words:
        node = process.files.locate(path, process.cwd, follow=False)[2]
        if node is None and "f" in flags:
            continue
        if node is not None and node.kind == "directory" and not set(flags) & {"r", "R"}:
            raise failure(errno.EISDIR, path)
        process.files.remove(path, process.cwd)
    return 0


async def mv(process: GuestProcess) -> int:
    files, (source, target) = process.files, [word for word in process.argv[1:] if word != "--"]
    node = files.get(source, process.cwd, follow=False)
    parent, name, found = files.locate(target, process.cwd, follow=False)
    if found is not None and found.kind == "directory":
        parent, name = found, source.rstrip("/").rpartition("/")[2]
    files.remove(source, process.cwd)
    files.attach(parent, name, node, target)
    return 0


async def touch(process: GuestProcess) -> int:
    for path in process.argv[1:]:
        stream = process.open(path, "+")
        stream.close()
    return 0


async def ls(process: GuestProcess) -> int:
    words = process.argv[1:]
    flags = "".join(word[1:] for word in words if word.startswith("-"))
    if set(flags) - set("1a"):
        return await usage(process)
    for path in [word for word in words if not word.startswith("-")] or ["."]:
        if process.files.get(path, process.cwd).kind != "directory":
            await process.out(path + "\n")
            continue
        names = [entry.path.rpartition("/")[2] for entry in process.files.list(path, process.cwd)]
        await process.out("".join(name + "\n" for name in names if "a" in flags or name[0] != "."))
    return 0


async def true(process: GuestProcess) -> int:
    return 0


async def false(process: GuestProcess) -> int:
    return 1


async def yes(process: GuestProcess) -> int:
    line = os.fsencode(" ".join(process.argv[1:] or ["y"])) + b"\n"
    block = line * max(1, 16_384 // len(line))
    while True:
        await process.out(block)


async def wc(process: GuestProcess) -> int:
    words = process.argv[1:]
    flag = words.pop(0) if words and words[0].startswith("-") else ""
    if flag not in ("-c", "-l", "-w"):
        return await usage(process)
    if words:
        process.streams[0].close()
        process.streams[0] = process.open(words[0], "r")
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


async def setsid(process: GuestProcess) -> int:
    process.session = process.group = process.pid
    process.argv = [word for word in process.argv[1:] if word != "-w"]
    return await execute(process)


async def nohup(process: GuestProcess) -> int:
    process.ignored.add(signal.SIGHUP)
    process.argv = process.argv[1:]
    return await execute(process)


async def tee(process: GuestProcess) -> int:
    outputs = [process.open(path, "w") for path in process.argv[1:]]
    while data := await process.read():
        await process.out(data)
        for output in outputs:
            await output.write(data)
    return 0


async def identity(process: GuestProcess) -> int:
    if process.argv[1:] not in (["-u"], ["-g"]):
        return await usage(process)
    await process.out("1000\n")
    return 0


async def stty(process: GuestProcess) -> int:
    terminal = process.stream(0).terminal
    if terminal is None:
        await process.err("stty: standard input: Inappropriate ioctl for device\n")
        return 1
    if process.argv[1:] == ["size"]:
        await process.out(f"{terminal.rows} {terminal.columns}\n")
        return 0
    return await usage(process)


async def test(process: GuestProcess) -> int:
    words = process.argv[1:]
    if process.argv[0] == "[":
        if words[-1:] != ["]"]:
            await process.err("[: missing ]\n")
            return 2
        del words[-1]
    try:
        return int(not evaluate(process, words))
    except (ValueError, IndexError):
        await process.err(f"test: the double does not know {words!r}\n")
        return 2


def evaluate(process: GuestProcess, words: list[str]) -> bool:
    if not words:
        return False
    if words[0] == "!" and len(words) > 1:
        return not evaluate(process, words[1:])
    if len(words) == 1:
        return bool(words[0])
    if len(words) == 2:
        return unary(process, *words)
    left, operator, right = words
    if operator in ("=", "=="):
        return left == right
    if operator == "!=":
        return left != right
    a, b = int(left), int(right)
    return {"-eq": a == b, "-ne": a != b, "-lt": a < b, "-le": a <= b, "-gt": a > b, "-ge": a >= b}[operator]


def unary(process: GuestProcess, operator: str, word: str) -> bool:
    if operator in ("-n", "-z"):
        return bool(word) == (operator == "-n")
    if operator == "-t":
        return int(word) in process.streams and process.streams[int(word)].terminal is not None
    try:
        node = process.files.get(word, process.cwd, follow=operator not in ("-L", "-h"))
    except OSError:
        return False
    table = {
        "-e": True,
        "-f": node.kind == "file",
        "-d": node.kind == "directory",
        "-p": node.kind == "fifo",
        "-L": node.kind == "symlink",
        "-h": node.kind == "symlink",
        "-s": node.size > 0,
        "-r": node.may(4),
        "-w": node.may(2),
        "-x": node.may(1),
        "-O": node.owned,
        "-c": node.kind == "device",
        "-u": bool(node.mode & stat.S_ISUID),
    }
    if operator not in table:
        raise ValueError(operator)
    return table[operator]


PROGRAMS: dict[str, Program] = {
    "[": test,
    "bash": sh,
    "cat": cat,
    "chmod": chmod,
    "dd": dd,
    "echo": echo,
    "env": env,
    "false": false,
    "head": head,
    "id": identity,
    "kill": kill,
    "ln": ln,
    "ls": ls,
    "mkdir": mkdir,
    "mkfifo": mkfifo,
    "mv": mv,
    "nohup": nohup,
    "printf": printf,
    "pwd": pwd,
    "rm": rm,
    "setsid": setsid,
    "sh": sh,
    "sleep": sleep,
    "stty": stty,
    "tail": tail,
    "tee": tee,
    "test": test,
    "touch": touch,
    "tr": tr,
    "true": true,
    "wc": wc,
    "yes": yes,
}
