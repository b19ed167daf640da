"""The double's shell: walks the tree `syntax.parse` makes. Subshells and pipelines are processes."""

from __future__ import annotations

import asyncio
import fnmatch
import os
import signal
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from sandbox.memory.expansion import Expansion
from sandbox.memory.launch import code_of, execute
from sandbox.memory.processes import GuestProcess, Pipe, Stream
from sandbox.memory.syntax import Compound, Item, Pipeline, Redirection, Script, Simple, Unsupported, parse

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
class Shell(Expansion):
    functions: dict[str, Script] = field(default_factory=dict)
    traps: dict[int, str] = field(default_factory=dict)
    pending: list[int] = field(default_factory=list)
    children: dict[int, GuestProcess] = field(default_factory=dict)
    signalled: asyncio.Event = field(default_factory=asyncio.Event)
    builtins: Mapping[str, Builtin] = field(default_factory=dict)
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
            functions=dict(self.functions),
            last=self.last,
            last_background=self.last_background,
            errexit=self.errexit,
            builtins=self.builtins,
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
        builtin = self.builtins.get(name)
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
            shell = Shell(process, self.name, builtins=self.builtins)
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


async def last_command(command: Simple | Compound, shell: Shell) -> int:
    return (
        await shell.simple(command, last=True)
        if isinstance(command, Simple)
        else await shell.command(command)
    )


async def background_item(item: Item, shell: Shell) -> int:
    lone = not item.rest and not item.first.negated and len(item.first.commands) == 1
    return await last_command(item.first.commands[0], shell) if lone else await shell.items(item)
