"""The double's shell: walks the tree `syntax.parse` makes. Subshells and pipelines are processes."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from sandbox.memory.control import Control, Exit, Jump
from sandbox.memory.descriptors import Targets, argued, redirect, redirected, swapped
from sandbox.memory.launch import code_of, execute
from sandbox.memory.parser import parse
from sandbox.memory.processes import GuestProcess
from sandbox.memory.streams import Pipe, Stream
from sandbox.memory.syntax import Compound, Item, Pipeline, Redirection, Script, Simple, Unsupported

Builtin = Callable[["Shell", list[str]], Awaitable[int]]
BREATHE_EVERY = 32
"""Commands between two visits to the event loop: a shell loop must not starve the test."""
IN_SHELL = frozenset({"echo", "printf", "true", "false", "test", "[", "pwd", "kill"})
"""Programs a shell runs without a process of their own."""


@dataclass
class Shell(Control):
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
            with swapped(self.process, own):
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
            child = self.fork(partial(Shell.within, command=command))
            return code_of(await child.ended())
        return await self.within(command)

    async def within(self, command: Compound) -> int:
        try:
            with redirected(self.process, await self.targets(command.redirections)):
                return await self.compound(command)
        except OSError as exc:
            return await self.complain(exc)

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
                with redirected(self.process, targets):
                    return self.last_substitution
            except OSError as exc:
                return await self.complain(exc)
        name = argv[0]
        builtin = self.builtins.get(name)
        try:
            if name == "exec":
                return await self.exec(argv[1:], targets)
            if name in self.functions:
                with redirected(self.process, targets):
                    return await self.function(name, argv[1:])
            if builtin is not None:
                with redirected(self.process, targets):
                    for key, value in assigned:
                        self.assign(key, value)
                    return await builtin(self, argv)
            if name in IN_SHELL:
                with redirected(self.process, targets), argued(self.process, argv):
                    return await self.process.files.get(f"/bin/{name}").program(self.process)  # type: ignore[misc]
        except BrokenPipeError:
            raise
        except OSError as exc:
            return await self.complain(exc)
        environment = self.environment() | dict(assigned)
        if last:
            try:
                redirect(self.process, targets)
            except OSError as exc:
                return await self.complain(exc)
            self.process.argv, self.process.env, self.process.caught = argv, environment, None
            return await execute(self.process)

        async def life(process: GuestProcess) -> int:
            shell = Shell(process, self.name, builtins=self.builtins)
            try:
                redirect(process, targets)
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

    async def exec(self, argv: list[str], targets: Targets) -> int:
        redirect(self.process, targets)
        if not argv:
            return 0
        self.process.argv, self.process.env, self.process.caught = argv, self.environment(), None
        raise Exit(await execute(self.process))

    async def complain(self, exc: OSError) -> int:
        await self.process.err(f"{self.name}: {exc.filename or ''}: {exc.strerror}\n")
        return 2

    async def targets(self, redirections: tuple[Redirection, ...]) -> Targets:
        return [(one.fd, one.operator, await self.text(one.target)) for one in redirections]

    async def substitute(self, text: str) -> str:
        pipe = Pipe()
        with swapped(self.process, self.process.streams | {1: pipe.writer}):
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
