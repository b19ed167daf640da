"""`test` and `[`."""

from __future__ import annotations

import stat

from sandbox.memory.processes import GuestProcess
from sandbox.memory.terminal import Terminal


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
        return isinstance(process.streams.get(int(word)), Terminal)
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
