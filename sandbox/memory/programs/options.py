"""What the double's programs share in reading their words. An option that is not known is never ignored."""

from __future__ import annotations

from sandbox.memory.processes import GuestProcess


async def usage(process: GuestProcess) -> int:
    await process.err(f"{process.argv[0]}: the double does not know {process.argv[1:]!r}\n")
    return 2


def flags(words: list[str]) -> tuple[str, list[str]]:
    """The letters before the operands, which begin after `--` if that is there; and the operands."""
    letters, rest = "", list(words)
    while rest and rest[0].startswith("-"):
        word = rest.pop(0)
        if word == "--":
            break
        letters += word[1:]
    return letters, rest


def counted(words: list[str]) -> tuple[str, str, list[str]]:
    """Of `head` and `tail`, as `-n 5`, `-c5` or `-5`: what is counted, how many (ten lines); the files."""
    if not words or not words[0].startswith("-"):
        return "n", "10", words
    option, rest = words[0][1:], words[1:]
    if option[0] not in "nc":
        return "n", option, rest
    return (option[0], option[1:], rest) if option[1:] else (option[0], rest[0], rest[1:])
