"""Programs that make, name, move and remove files."""

from __future__ import annotations

import errno

from sandbox.memory.files import Node, failure
from sandbox.memory.processes import GuestProcess
from sandbox.memory.programs.options import flags, usage


async def dd(process: GuestProcess) -> int:
    given = dict(word.split("=", 1) for word in process.argv[1:])
    if set(given) - {"if", "of", "bs", "count", "seek", "conv", "status"}:
        return await usage(process)
    size = amount(given.get("bs", "512"))
    count = amount(given["count"]) if "count" in given else None
    if "if" in given:
        process.take_input(given["if"])
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
    letters, words = flags(process.argv[1:])
    if set(letters) - set("sfn") or len(words) != 2:
        return await usage(process)
    source, target = words
    if "f" in letters and process.files.locate(target, process.cwd, follow=False)[2] is not None:
        process.files.remove(target, process.cwd)
    node = Node("symlink", 0o777, target=source) if "s" in letters else process.files.get(source, process.cwd)
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
    letters, paths = flags(process.argv[1:])
    for path in paths:
        node = process.files.locate(path, process.cwd, follow=False)[2]
        if node is None and "f" in letters:
            continue
        if node is not None and node.kind == "directory" and not set(letters) & {"r", "R"}:
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
    letters = "".join(word[1:] for word in words if word.startswith("-"))
    if set(letters) - set("1a"):
        return await usage(process)
    for path in [word for word in words if not word.startswith("-")] or ["."]:
        if process.files.get(path, process.cwd).kind != "directory":
            await process.out(path + "\n")
            continue
        names = [entry.path.rpartition("/")[2] for entry in process.files.list(path, process.cwd)]
        await process.out("".join(name + "\n" for name in names if "a" in letters or name[0] != "."))
    return 0
