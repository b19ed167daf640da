"""Compound commands of the double's shell: groups, conditions and loops, and the ways out of them."""

from __future__ import annotations

import fnmatch
from abc import abstractmethod

from sandbox.memory.expansion import Expansion
from sandbox.memory.syntax import Compound, Script


class Exit(Exception):
    def __init__(self, status: int) -> None:
        self.status = status


class Jump(Exception):
    """`break`, `continue` or `return`."""

    def __init__(self, kind: str, count: int) -> None:
        self.kind, self.count = kind, count


class Control(Expansion):
    @abstractmethod
    async def run(self, script: Script) -> int:
        """All of a script; the status of its last command."""

    @abstractmethod
    async def condition(self, script: Script) -> int:
        """The same where a failure ends nothing."""

    async def compound(self, command: Compound) -> int:
        parts = command.parts
        if command.kind in ("group", "subshell"):
            return await self.run(parts[0])
        if command.kind == "if":
            for condition, body in zip(parts[::2], parts[1::2], strict=False):
                if await self.condition(condition) == 0:
                    return await self.run(body)
            return await self.run(parts[-1]) if len(parts) % 2 else 0
        if command.kind == "case":
            assert command.words is not None
            subject = await self.text(command.words[0])
            for choices, body in zip(command.patterns, parts, strict=True):
                for choice in choices:
                    if fnmatch.fnmatchcase(subject, await self.pattern(choice)):
                        return await self.run(body)
            return 0
        status = 0
        if command.kind == "for":
            values = list(self.arguments) if command.words is None else await self.fields(command.words)
            for value in values:
                self.assign(command.name, value)
                status, stop = await self.turn(parts[0])
                if stop:
                    break
            return status
        while True:
            if (await self.condition(parts[0]) == 0) != (command.kind == "while"):
                return status
            status, stop = await self.turn(parts[1])
            if stop:
                return status

    async def turn(self, body: Script) -> tuple[int, bool]:
        try:
            return await self.run(body), False
        except Jump as jump:
            if jump.kind == "return":
                raise
            if jump.count > 1:
                raise Jump(jump.kind, jump.count - 1) from None
            return 0, jump.kind == "break"
