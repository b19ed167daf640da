"""Words of the double's shell: variables, substitutions, splitting and globs."""

from __future__ import annotations

import fnmatch
import os
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from sandbox.memory.arithmetic import calculate
from sandbox.memory.parser import parse
from sandbox.memory.processes import GuestProcess
from sandbox.memory.syntax import Part, Simple, Word


@dataclass
class Expansion(ABC):
    """What a shell knows by name, and what becomes of a word by it."""

    process: GuestProcess
    name: str = "sh"
    """`$0`."""
    arguments: list[str] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    exported: set[str] = field(default_factory=set)
    last: int = 0
    """`$?`."""
    last_background: int = 0
    """`$!`."""

    @abstractmethod
    async def substitute(self, text: str) -> str:
        """What a command prints, for `$(…)`."""

    def assign(self, name: str, value: str) -> None:
        self.variables[name] = value
        if name in self.process.env:
            self.exported.add(name)

    def environment(self) -> dict[str, str]:
        changed = {name: self.variables[name] for name in self.exported if name in self.variables}
        return self.process.env | changed

    def lookup(self, name: str) -> str | None:
        if name == "?":
            return str(self.last)
        if name == "$":
            return str(self.process.pid) if "$" not in self.variables else self.variables["$"]
        if name == "!":
            return str(self.last_background or "")
        if name == "#":
            return str(len(self.arguments))
        if name in ("@", "*"):
            return " ".join(self.arguments)
        if name == "-":
            return ""
        if name.isdigit():
            index = int(name)
            return (
                self.name
                if index == 0
                else self.arguments[index - 1]
                if index <= len(self.arguments)
                else None
            )
        return self.variables.get(name, self.process.env.get(name))

    async def value(self, part: Part) -> str:
        if part.kind == "text":
            return part.text
        if part.kind == "command":
            return await self.substitute(part.text)
        if part.kind == "arithmetic":
            return str(await self.arithmetic(part.text))
        found = self.lookup(part.text)
        operator = part.operator
        if operator == "length":
            return str(len(os.fsencode(found or "")))
        if operator.lstrip(":") in ("-", "+", "="):
            missing = found is None or (operator.startswith(":") and not found)
            if operator.endswith("+"):
                return "" if missing else await self.text(part.operand)
            if missing:
                found = await self.text(part.operand)
                if operator.endswith("="):
                    self.assign(part.text, found)
        elif operator:
            found = trim(found or "", operator, await self.pattern(part.operand))
        return found or ""

    async def arithmetic(self, text: str) -> int:
        expanded = "".join([await self.value(part) for part in words_of(text)])
        return calculate(expanded, lambda name: int(self.lookup(name) or "0", 0))

    async def text(self, word: Word) -> str:
        """A word as one string, without splitting."""
        return "".join([await self.value(part) for part in tilde(word, self.lookup("HOME"))])

    async def pattern(self, word: Word) -> str:
        """As a glob pattern, in which quoted characters stand for themselves."""
        return "".join(
            [escape(await self.value(part)) if part.quoted else await self.value(part) for part in word]
        )

    async def fields(self, words: tuple[Word, ...]) -> list[str]:
        found: list[str] = []
        for word in words:
            found.extend(await self.split(tilde(word, self.lookup("HOME"))))
        return found

    async def split(self, word: Word) -> list[str]:
        """Fields of one word: unquoted expansions are split at white space, then globs are matched."""
        fields: list[tuple[str, str]] = []
        text = pattern = ""
        open_field = False
        for part in word:
            if part.kind == "variable" and part.text == "@" and part.quoted:
                for index, argument in enumerate(self.arguments):
                    if index:
                        fields.append((text, pattern))
                        text = pattern = ""
                    text, pattern, open_field = text + argument, pattern + escape(argument), True
                continue
            value = await self.value(part)
            if part.quoted or part.kind == "text":
                text, open_field = text + value, True
                pattern += escape(value) if part.quoted else value
                continue
            pieces = value.split()
            if value[:1].isspace() and open_field:
                fields.append((text, pattern))
                text, pattern, open_field = "", "", False
            for index, piece in enumerate(pieces):
                if index:
                    fields.append((text, pattern))
                    text = pattern = ""
                text, pattern, open_field = text + piece, pattern + piece, True
            if value[-1:].isspace() and open_field:
                fields.append((text, pattern))
                text, pattern, open_field = "", "", False
        if open_field:
            fields.append((text, pattern))
        return [name for text, pattern in fields for name in self.glob(text, pattern)]

    def glob(self, text: str, pattern: str) -> list[str]:
        """Names that match in one directory; the text itself when none does."""
        _, slash, last = pattern.rpartition("/")
        if not re.search(r"\*|\?|\[.+\]", re.sub(r"\[[*?[]\]", "", last)):
            return [text]
        where = text.rpartition("/")[0] or ("/" if slash else ".")
        try:
            names = [
                entry.path.rpartition("/")[2] for entry in self.process.files.list(where, self.process.cwd)
            ]
        except OSError:
            return [text]
        hidden = last.startswith(".")
        found = [name for name in names if fnmatch.fnmatchcase(name, last) and (hidden or name[0] != ".")]
        prefix = text.rpartition("/")[0] + slash
        return [prefix + name for name in found] or [text]


def tilde(word: Word, home: str | None) -> Word:
    head = word[0] if word else None
    if (
        home
        and head
        and head.kind == "text"
        and not head.quoted
        and (head.text == "~" or head.text.startswith("~/"))
    ):
        return (Part("text", home, True), Part("text", head.text[1:]), *word[1:])
    return word


def words_of(text: str) -> Word:
    """Arithmetic text with its `$` expansions."""
    script = parse(f'"{text}"' if text.strip() else "0")
    command = script[0].first.commands[0]
    assert isinstance(command, Simple)
    return command.words[0]


def escape(text: str) -> str:
    return "".join(f"[{char}]" if char in "*?[" else char for char in text)


def trim(text: str, operator: str, pattern: str) -> str:
    front = operator[0] == "#"
    ends = range(len(text) + 1) if front == (len(operator) == 1) else range(len(text), -1, -1)
    for end in ends:
        if fnmatch.fnmatchcase(text[:end] if front else text[end:], pattern):
            return text[end:] if front else text[:end]
    return text
