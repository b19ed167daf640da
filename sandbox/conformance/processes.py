"""The exec contract: spawned processes, whose streams are carried as they come, and terminals."""

from __future__ import annotations

import asyncio
import signal

from sandbox.conformance.asking import (
    PATIENCE_S,
    ask,
    beats,
    dead,
    heartbeat,
    pattern,
    raises,
    same,
    scratch,
    shell,
    true,
)
from sandbox.conformance.registry import check
from sandbox.protocol import Command, Process, Sandbox

SIZE = (31, 97)


class Reader:
    """Collects a process's output, and waits until something was seen."""

    def __init__(self, process: Process) -> None:
        self._chunks = process.__aiter__()
        self.seen = {"stdout": b"", "stderr": b""}

    async def until(self, text: bytes, stream: str = "stdout") -> None:
        async with asyncio.timeout(PATIENCE_S):
            while text not in self.seen[stream]:
                try:
                    chunk = await anext(self._chunks)
                except StopAsyncIteration:
                    raise AssertionError(f"output ended without {text!r}: {self.seen}") from None
                self.seen[chunk.stream] += chunk.data

    async def rest(self) -> dict[str, bytes]:
        async with asyncio.timeout(PATIENCE_S):
            async for chunk in self._chunks:
                self.seen[chunk.stream] += chunk.data
        return self.seen


@check("spawn.duplex", "what is sent comes back while the process runs")
async def duplex(box: Sandbox) -> None:
    async with box.spawn(Command(("cat",), stdin=None)) as process:
        reader = Reader(process)
        for text in (b"one\n", b"two", b"\x00\xff"):
            await process.send(text)
            await reader.until(text)
        await process.close_stdin()
        same((await reader.rest())["stdout"], b"one\ntwo\x00\xff", "output")
        same((await process.wait()).exit_code, 0, "exit code")


@check("spawn.result", "the result of a spawned process has its end and its totals; the streams were carried")
async def result(box: Sandbox) -> None:
    async with box.spawn(shell("echo out; echo err >&2; exit 11")) as process:
        seen = await Reader(process).rest()
        done = await process.wait()
    same(seen, {"stdout": b"out\n", "stderr": b"err\n"}, "chunks")
    same((done.exit_code, done.signal, done.stdout, done.stderr), (11, None, b"", b""), "result")
    same((done.stdout_total, done.stderr_total), (4, 4), "totals")


@check("spawn.missing", "a spawned program that does not exist is 127")
async def spawn_missing(box: Sandbox) -> None:
    async with box.spawn(Command(("no-such-program-here",))) as process:
        await Reader(process).rest()
        same((await process.wait()).exit_code, 127, "exit code")


@check("spawn.both-ways", "eight mebibytes go in and come out exact past a slow reader")
async def both_ways(box: Sandbox) -> None:
    data = pattern(8 << 20)

    async def send(process: Process) -> None:
        for at in range(0, len(data), 300_000):
            await process.send(data[at : at + 300_000])
        await process.close_stdin()

    found = bytearray()
    async with box.spawn(Command(("cat",), stdin=None)) as process, asyncio.TaskGroup() as group:
        group.create_task(send(process))
        async for chunk in process:
            found += chunk.data
            if len(found) < 1 << 20:
                await asyncio.sleep(0.01)
    true(bytes(found) == data, f"{len(found)} bytes came back, not the {len(data)} that went in")


@check("spawn.slow-reader", "a slow reader holds the writer back and nobody else")
async def slow_reader(box: Sandbox) -> None:
    async with box.spawn(shell("yes | head -c 8000000; echo done >&2")) as process:
        await asyncio.sleep(0.3)
        same((await ask(box, "echo fine")).stdout, b"fine\n", "another command meanwhile")
        seen = await Reader(process).rest()
    same((len(seen["stdout"]), seen["stderr"]), (8_000_000, b"done\n"), "output")


@check("spawn.leaving-ends", "leaving the block ends what still runs, whatever the reason")
async def leaving_ends(box: Sandbox) -> None:
    there = await scratch(box)
    text = f"( setsid sh -c '{heartbeat(there + '/daemon')}' & ); {heartbeat(there + '/main')}"
    async with box.spawn(shell(text)):
        await beats(box, f"{there}/daemon")
        await beats(box, f"{there}/main")
    await dead(box, f"{there}/daemon")
    await dead(box, f"{there}/main")
    with raises(RuntimeError):
        async with box.spawn(shell(heartbeat(f"{there}/other"))):
            await beats(box, f"{there}/other")
            raise RuntimeError("the caller's own")
    await dead(box, f"{there}/other")
    same(dict(await box.jobs()), {}, "processes left")


@check("spawn.jobs-do-not-delay", "the output ends with the main process, though a child holds it open")
async def spawn_jobs_do_not_delay(box: Sandbox) -> None:
    async with box.spawn(shell("sleep 300 & echo hi")) as process:
        same((await Reader(process).rest())["stdout"], b"hi\n", "output")
        done = await process.wait()
    same((done.exit_code, done.jobs), (0, 1), "outcome")


@check("spawn.signal", "a signal reaches the process, which may handle it")
async def spawn_signal(box: Sandbox) -> None:
    text = "trap 'echo caught' USR1; trap 'exit 21' TERM; echo ready; while :; do sleep 0.1; done"
    async with box.spawn(shell(text)) as process:
        reader = Reader(process)
        await reader.until(b"ready")
        await process.signal(signal.SIGUSR1)
        await reader.until(b"caught")
        await process.signal(signal.SIGTERM)
        await reader.rest()
        same((await process.wait()).exit_code, 21, "exit code")


@check("spawn.kill", "kill ends the whole descent, however stubborn")
async def spawn_kill(box: Sandbox) -> None:
    path = f"{await scratch(box)}/beat"
    async with box.spawn(
        shell(f"trap '' TERM; setsid sh -c '{heartbeat(path)}' & sleep 300; sleep 300")
    ) as process:
        await beats(box, path)
        await process.kill()
        done = await process.wait()
        same((done.signal, done.cancelled), (9, True), "outcome")
        await dead(box, path)


@check("spawn.timeout", "a spawned process is ended by its timeout too")
async def spawn_timeout(box: Sandbox) -> None:
    path = f"{await scratch(box)}/beat"
    async with box.spawn(shell(f"echo early; {heartbeat(path)}", timeout_s=1)) as process:
        same((await Reader(process).rest())["stdout"], b"early\n", "output")
        true((await process.wait()).timed_out, "not marked as timed out")
    await dead(box, path)


@check("spawn.closed-input", "sending to a process that closed its input, or has ended, is a BrokenPipeError")
async def closed_input(box: Sandbox) -> None:
    for text in ("exec <&-; echo ready; sleep 300", "echo ready"):
        async with box.spawn(shell(text, stdin=None)) as process:
            await Reader(process).until(b"ready")
            with raises(BrokenPipeError):
                async with asyncio.timeout(PATIENCE_S):
                    while True:
                        await process.send(bytes(65_536))


@check("spawn.no-input", "a process spawned without input reads the end of file at once")
async def no_input(box: Sandbox) -> None:
    async with box.spawn(Command(("cat",))) as process:
        same((await Reader(process).rest())["stdout"], b"", "output")
        same((await process.wait()).exit_code, 0, "exit code")


@check("tty.absent", "without asking for one a command has no terminal")
async def tty_absent(box: Sandbox) -> None:
    same((await ask(box, "for n in 0 1 2; do test -t $n && echo $n; done; exit 0")).stdout, b"", "terminals")


@check("tty.present", "under a terminal all three streams are one, and standard output carries both")
async def tty_present(box: Sandbox) -> None:
    done = await ask(
        box, "for n in 0 1 2; do test -t $n && echo $n; done; echo err >&2", tty=(24, 80), stdin=None
    )
    same((done.stdout, done.stderr), (b"0\r\n1\r\n2\r\nerr\r\n", b""), "streams")


@check("tty.size", "a terminal has the size that was asked for, and follows a resize")
async def tty_size(box: Sandbox) -> None:
    if (await ask(box, "command -v stty")).exit_code:
        return  # An image without stty cannot show it.
    text = "trap 'echo changed' WINCH; stty size; echo ready; while :; do sleep 0.1; stty size; done"
    async with box.spawn(shell(text, tty=SIZE, stdin=None)) as process:
        reader = Reader(process)
        await reader.until(b"31 97\r\nready")
        await process.resize(40, 120)
        await reader.until(b"changed")
        await reader.until(b"40 120")


@check("tty.interrupt", "Ctrl-C interrupts what runs in the foreground")
async def tty_interrupt(box: Sandbox) -> None:
    text = "trap 'echo caught; exit 7' INT; echo ready; while :; do sleep 0.1; done"
    async with box.spawn(shell(text, tty=SIZE, stdin=None)) as process:
        reader = Reader(process)
        await reader.until(b"ready")
        await process.send(b"\x03")
        await reader.until(b"caught")
        await reader.rest()
        same((await process.wait()).exit_code, 7, "exit code")


@check("tty.lines", "a terminal echoes, delivers lines, and Ctrl-D is the end of input")
async def tty_lines(box: Sandbox) -> None:
    async with box.spawn(shell("echo ready; cat; echo over", tty=SIZE, stdin=None)) as process:
        reader = Reader(process)
        await reader.until(b"ready\r\n")
        await process.send(b"typed\r")
        await reader.until(b"typed\r\ntyped\r\n")
        await process.send(b"\x04")
        await reader.until(b"over\r\n")
        await reader.rest()
        same((await process.wait()).exit_code, 0, "exit code")


@check("tty.ending", "leaving the block ends what runs under a terminal, daemons included")
async def tty_ending(box: Sandbox) -> None:
    path = f"{await scratch(box)}/beat"
    async with box.spawn(shell(f"( setsid sh -c '{heartbeat(path)}' & ); cat", tty=SIZE, stdin=None)):
        await beats(box, path)
    await dead(box, path)
