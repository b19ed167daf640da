"""The double's shell: walks the tree `syntax.parse` makes. Subshells and pipelines are processes."""

from __future__ import annotations

import ast
import asyncio
import errno
import fnmatch
import os
import re
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sandbox.memory.files import failure
from sandbox.memory.processes import GuestProcess, Pipe, Stream
from sandbox.memory.syntax import (
    Compound,
    Item,
    Part,
    Pipeline,
    Redirection,
    Script,
    Simple,
    Unsupported,
    Word,
    parse,
)

Builtin = Callable[["Shell", list[str]], Awaitable[int]]
BREATHE_EVERY = 32
"""Commands between two visits to the event loop: a shell loop must not starve the test."""
IN_SHELL = frozenset({"echo", "printf", "true", "false", "test", "[", "pwd", "kill"})
"""Programs a shell runs without a process of their own."""


class Exit(Exception):
    def __init__(self, status: int) -> None:
        self.status = status


class Jump(Exception):
    """`break`, `continue` or `return`."""

    def __init__(self, kind: str, count: int) -> None:
        self.kind, self.count = kind, count


@dataclass
class Shell:
    process: GuestProcess
    name: str = "sh"
    arguments: list[str] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    exported: set[str] = field(default_factory=set)
    functions: dict[str, Script] = field(default_factory=dict)
    traps: dict[int, str] = field(default_factory=dict)
    pending: list[int] = field(default_factory=list)
    children: dict[int, GuestProcess] = field(default_factory=dict)
    last: int = 0
    last_background: int = 0
    signalled: asyncio.Event = field(default_factory=asyncio.Event)
    commands: int = 0
    last_substitution: int = 0
    errexit: bool = False
    guarded: int = 0
    """Depth of conditions, inside which `set -e` does not apply."""

    # ---- running ----

    async def main(self, text: str) -> int:
        """A whole script; the status it ends with."""
        self.process.caught = self.caught
        try:
            status = await self.run(parse(text))
        except Unsupported as exc:
            await self.process.err(f"{self.name}: syntax error: {exc}\n")
            status = 2
        except Exit as end:
            status = end.status
        except Jump:
            status = self.last
        if 0 in self.traps:
            handler = self.traps.pop(0)
            try:
                await self.run(parse(handler))
            except Exit as end:
                status = end.status
        return status

    def caught(self, number: int) -> bool:
        if number not in self.traps:
            return False
        self.pending.append(number)
        self.signalled.set()
        return True

    async def breathe(self) -> None:
        self.commands += 1
        if self.commands % BREATHE_EVERY == 0:
            await asyncio.sleep(0)
        while self.pending:
            status = self.last
            await self.run(parse(self.traps[self.pending.pop(0)]))
            self.last = status
        self.signalled.clear()

    async def run(self, script: Script) -> int:
        for item in script:
            if item.background:
                child = self.fork(partial(background_item, item), background=True)
                self.children[child.pid] = child
                self.last_background = child.pid
                self.last = 0
            else:
                self.last = await self.items(item)
            await self.breathe()
        return self.last

    async def items(self, item: Item) -> int:
        status = await self.guard(item.first, bool(item.rest))
        for index, (operator, pipeline) in enumerate(item.rest):
            if (operator == "&&") == (status == 0):
                status = await self.guard(pipeline, index + 1 < len(item.rest))
        return status

    async def guard(self, pipeline: Pipeline, guarded: bool) -> int:
        self.guarded += guarded or pipeline.negated
        try:
            self.last = status = await self.pipeline(pipeline)
        finally:
            self.guarded -= guarded or pipeline.negated
        if status and self.errexit and not self.guarded and not guarded and not pipeline.negated:
            raise Exit(status)
        return status

    async def condition(self, script: Script) -> int:
        self.guarded += 1
        try:
            return await self.run(script)
        finally:
            self.guarded -= 1

    async def pipeline(self, pipeline: Pipeline) -> int:
        if len(pipeline.commands) == 1:
            status = await self.command(pipeline.commands[0])
        else:
            status = await self.piped(pipeline.commands)
        return int(status == 0) if pipeline.negated else status

    async def piped(self, commands: tuple[Simple | Compound, ...]) -> int:
        children: list[GuestProcess] = []
        source: Stream | None = None
        for index, command in enumerate(commands):
            pipe = Pipe() if index + 1 < len(commands) else None
            own = dict(self.process.streams)
            if source is not None:
                own[0] = source
            if pipe is not None:
                own[1] = pipe.writer
            with self.swapped(own):
                # Only the child holds the pipe: it sees end of file when its neighbour ends.
                children.append(self.fork(partial(last_command, command)))
            if source is not None:
                source.close()
            if pipe is not None:
                pipe.writer.close()
                source = pipe.reader
        status = 0
        for child in children:
            status = code_of(await child.ended())
        return status

    @contextmanager
    def swapped(self, streams: dict[int, Stream]) -> Iterator[None]:
        kept, self.process.streams = self.process.streams, streams
        try:
            yield
        finally:
            self.process.streams = kept

    def fork(self, body: Callable[[Shell], Awaitable[int]], background: bool = False) -> GuestProcess:
        child_shell = Shell(
            self.process,
            self.name,
            list(self.arguments),
            dict(self.variables),
            set(self.exported),
            dict(self.functions),
            last=self.last,
            last_background=self.last_background,
            errexit=self.errexit,
        )

        async def life(process: GuestProcess) -> int:
            child_shell.process = process
            process.caught = child_shell.caught
            try:
                status = await body(child_shell)
            except Exit as end:
                status = end.status
            except Jump:
                status = child_shell.last
            if 0 in child_shell.traps:
                await child_shell.run(parse(child_shell.traps.pop(0)))
            return status

        child = self.process.system.fork(self.process, life)
        if background:
            child.ignored |= {signal.SIGINT, signal.SIGQUIT}
            child.streams.pop(0).close()
            child.streams[0] = child.open("/dev/null", "r")
        return child

    async def command(self, command: Simple | Compound) -> int:
        await self.breathe()
        if isinstance(command, Simple):
            return await self.simple(command)
        if command.kind == "function":
            self.functions[command.name] = command.parts[0]
            return 0
        if command.kind == "subshell":
            child = self.fork(partial(Shell.redirected, command=command))
            return code_of(await child.ended())
        return await self.redirected(command)

    async def redirected(self, command: Compound) -> int:
        try:
            with self.redirections(await self.targets(command.redirections)):
                return await self.compound(command)
        except OSError as exc:
            return await self.complain(exc)

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

    async def simple(self, command: Simple, last: bool = False) -> int:
        """With `last` nothing follows, and a program takes the shell's process over."""
        self.last_substitution = 0
        try:
            assigned = [(name, await self.text(value)) for name, value in command.assignments]
            argv = await self.fields(command.words)
            targets = await self.targets(command.redirections)
        except OSError as exc:
            return await self.complain(exc)
        if not argv:
            for name, value in assigned:
                self.assign(name, value)
            try:
                with self.redirections(targets):
                    return self.last_substitution
            except OSError as exc:
                return await self.complain(exc)
        name = argv[0]
        builtin = BUILTINS.get(name)
        try:
            if name == "exec":
                return await self.exec(argv[1:], targets)
            if name in self.functions:
                with self.redirections(targets):
                    return await self.function(name, argv[1:])
            if builtin is not None:
                with self.redirections(targets):
                    for key, value in assigned:
                        self.assign(key, value)
                    return await builtin(self, argv)
            if name in IN_SHELL:
                with self.redirections(targets), self.argued(argv):
                    return await self.process.files.get(f"/bin/{name}").program(self.process)  # type: ignore[misc]
        except BrokenPipeError:
            raise
        except OSError as exc:
            return await self.complain(exc)
        environment = self.environment() | dict(assigned)
        if last:
            try:
                self.redirect(targets)
            except OSError as exc:
                return await self.complain(exc)
            self.process.argv, self.process.env, self.process.caught = argv, environment, None
            return await execute(self.process)

        async def life(process: GuestProcess) -> int:
            shell = Shell(process, self.name)
            try:
                shell.redirect(targets)
            except OSError as exc:
                return await shell.complain(exc)
            process.argv, process.env, process.caught = argv, environment, None
            return await execute(process)

        child = self.process.system.fork(self.process, life)
        return code_of(await child.ended())

    async def function(self, name: str, arguments: list[str]) -> int:
        kept, self.arguments = self.arguments, arguments
        try:
            return await self.run(self.functions[name])
        except Jump as jump:
            if jump.kind != "return":
                raise
            return jump.count
        finally:
            self.arguments = kept

    async def exec(self, argv: list[str], targets: list[tuple[int, str, str]]) -> int:
        self.redirect(targets)
        if not argv:
            return 0
        self.process.argv, self.process.env, self.process.caught = argv, self.environment(), None
        raise Exit(await execute(self.process))

    @contextmanager
    def argued(self, argv: list[str]) -> Iterator[None]:
        kept, self.process.argv = self.process.argv, argv
        try:
            yield
        finally:
            self.process.argv = kept

    async def complain(self, exc: OSError) -> int:
        await self.process.err(f"{self.name}: {exc.filename or ''}: {exc.strerror}\n")
        return 2

    # ---- redirections ----

    async def targets(self, redirections: tuple[Redirection, ...]) -> list[tuple[int, str, str]]:
        return [(one.fd, one.operator, await self.text(one.target)) for one in redirections]

    @contextmanager
    def redirections(self, targets: list[tuple[int, str, str]]) -> Iterator[None]:
        """For the time of one command, then as it was."""
        process = self.process
        if not targets:
            yield
            return
        kept = {fd: stream.dup() for fd, stream in process.streams.items()}
        try:
            self.redirect(targets)
            yield
        finally:
            for stream in process.streams.values():
                stream.close()
            process.streams = kept

    def redirect(self, targets: list[tuple[int, str, str]]) -> None:
        streams = self.process.streams
        for fd, operator, target in targets:
            if operator in (">&", "<&"):
                new = None if target == "-" else self.process.stream(int(target)).dup()
            else:
                mode = {"<": "r", ">>": "a", "<>": "+"}.get(operator, "w")
                new = self.process.open(target, mode)
            if fd in streams:
                streams.pop(fd).close()
            if new is not None:
                streams[fd] = new

    # ---- expansion ----

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
        if operator == "#":
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

    async def substitute(self, text: str) -> str:
        pipe = Pipe()
        with self.swapped(self.process.streams | {1: pipe.writer}):
            child = self.fork(partial(Shell.run, script=parse(text)))
        pipe.writer.close()
        parts = []
        while data := await pipe.reader.read(65_536):
            parts.append(data)
        self.last_substitution = self.last = code_of(await child.ended())
        return os.fsdecode(b"".join(parts).replace(b"\0", b"")).rstrip("\n")

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


async def last_command(command: Simple | Compound, shell: Shell) -> int:
    return (
        await shell.simple(command, last=True)
        if isinstance(command, Simple)
        else await shell.command(command)
    )


async def background_item(item: Item, shell: Shell) -> int:
    lone = not item.rest and not item.first.negated and len(item.first.commands) == 1
    return await last_command(item.first.commands[0], shell) if lone else await shell.items(item)


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


def calculate(text: str, lookup: Callable[[str], int]) -> int:
    """C integer arithmetic, by way of Python's own parser; only numbers, names and operators pass."""

    def of(node: ast.expr) -> int:
        if isinstance(node, ast.Constant) and isinstance(node.value, int):
            return node.value
        if isinstance(node, ast.Name):
            return lookup(node.id)
        if isinstance(node, ast.UnaryOp):
            value = of(node.operand)
            return {ast.USub: -value, ast.UAdd: value, ast.Invert: ~value, ast.Not: int(not value)}[
                type(node.op)
            ]
        if isinstance(node, ast.BinOp):
            return binary(type(node.op), of(node.left), of(node.right))
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            left, right = of(node.left), of(node.comparators[0])
            table = {
                ast.Lt: left < right,
                ast.LtE: left <= right,
                ast.Gt: left > right,
                ast.GtE: left >= right,
                ast.Eq: left == right,
                ast.NotEq: left != right,
            }
            return int(table[type(node.ops[0])])
        raise Unsupported(f"arithmetic {text!r}")

    try:
        return of(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, KeyError, ZeroDivisionError) as exc:
        raise Unsupported(f"arithmetic {text!r}") from exc


def binary(operator: type[ast.operator], left: int, right: int) -> int:
    if operator in (ast.Div, ast.Mod):
        quotient = abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1)
        return quotient if operator is ast.Div else left - quotient * right
    simple: dict[type[ast.operator], Callable[[], int]] = {
        ast.Add: lambda: left + right,
        ast.Sub: lambda: left - right,
        ast.Mult: lambda: left * right,
        ast.LShift: lambda: left << right,
        ast.RShift: lambda: left >> right,
        ast.BitAnd: lambda: left & right,
        ast.BitOr: lambda: left | right,
        ast.BitXor: lambda: left ^ right,
    }
    return simple[operator]()


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
    shell = Shell(process, name, arguments, errexit="e" in flags)
    shell.variables["$"] = str(process.pid)
    return await shell.main(text)


# ---- builtins ----


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
        known = name in BUILTINS or name in shell.functions or name in IN_SHELL
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
