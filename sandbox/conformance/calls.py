"""The exec contract: started calls, at-most-once, and the life of the sandbox itself."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from sandbox.conformance.asking import (
    PATIENCE_S,
    all_raise,
    beats,
    dead,
    heartbeat,
    output,
    raises,
    same,
    scratch,
    shell,
    true,
    until,
)
from sandbox.conformance.registry import check
from sandbox.errors import SandboxError, SandboxGone
from sandbox.protocol import Command, Sandbox

CALL_ID = "0123456789abcdef"


@check("calls.start", "start comes back at once, result waits for the end")
async def start(box: Sandbox) -> None:
    path = f"{await scratch(box)}/go"
    call_id = await box.start(shell(f"while [ ! -e {path} ]; do sleep 0.05; done; echo went; exit 3"))
    true(len(call_id) == 16 and int(call_id, 16) >= 0, f"call id {call_id!r}")
    await box.write_file(path, b"")
    done = await box.result(call_id)
    same((done.exit_code, done.stdout), (3, b"went\n"), "outcome")


@check("calls.result-later", "the result of a call that ended long ago is still there")
async def result_later(box: Sandbox) -> None:
    call_id = await box.start(shell("echo kept; exit 9"))

    async def ended() -> bool:
        return not (await box.progress(call_id)).running

    await until(ended)
    for number in range(20):
        await output(box, f"echo {number}")
    done = await box.result(call_id)
    same((done.exit_code, done.stdout), (9, b"kept\n"), "outcome")


@check("calls.progress", "the last output of a running call can be looked at without waiting for it")
async def progress(box: Sandbox) -> None:
    call_id = await box.start(shell("echo first; echo second; echo third >&2; sleep 300"))

    async def printed() -> bool:
        return (await box.progress(call_id)).stderr_total == 6

    await until(printed)
    seen = await box.progress(call_id)
    same((seen.stdout, seen.stderr, seen.running), (b"first\nsecond\n", b"third\n", True), "progress")
    same((await box.progress(call_id, tail_bytes=4)).stdout, b"ond\n", "the last four bytes")
    same((await box.progress(call_id, tail_bytes=4)).stdout_total, 13, "total")
    await box.kill(call_id)
    same((await box.result(call_id)).stdout, b"first\nsecond\n", "progress took nothing away")


@check("calls.unknown", "an unknown call id is a KeyError")
async def unknown(box: Sandbox) -> None:
    with raises(KeyError):
        await box.result("c0000000000000ee")
    with raises(KeyError):
        await box.progress("c0000000000000ee")


@check("calls.bad-id", "a call id that is not 16 hex digits is a ValueError")
async def bad_id(box: Sandbox) -> None:
    for call_id in ("", "short", "g" * 16, "0" * 17, "../../../../etc/x"):
        with raises(ValueError):
            await box.run(Command(("true",), call_id=call_id))


@check("calls.keep-and-release", "a result that is kept can be had again until it is released")
async def keep_and_release(box: Sandbox) -> None:
    call_id = await box.start(shell("echo kept; exit 9"))
    for _ in range(3):
        done = await box.result(call_id, keep=True)
        same((done.exit_code, done.stdout), (9, b"kept\n"), "outcome")
    await box.release(call_id)
    await box.release(call_id)
    with raises(KeyError):
        await box.result(call_id)


@check("calls.two-waiters", "two who wait for one call both get its result")
async def two_waiters(box: Sandbox) -> None:
    call_id = await box.start(shell("sleep 0.3; echo both"))
    first, second = await asyncio.gather(box.result(call_id), box.result(call_id))
    same((first.stdout, second.stdout), (b"both\n", b"both\n"), "results")


@check("calls.waiter-leaves", "whoever stops waiting for a started call does not end it")
async def waiter_leaves(box: Sandbox) -> None:
    path = f"{await scratch(box)}/beat"
    call_id = await box.start(shell(heartbeat(path)))
    await beats(box, path)
    with suppress(TimeoutError):
        async with asyncio.timeout(0.2):
            await box.result(call_id)
    await beats(box, path)
    await box.kill(call_id)
    true((await box.result(call_id)).cancelled, "not marked as cancelled")
    await dead(box, path)


@check("calls.once-in-a-row", "a call id is executed once, however often it is asked for")
async def once_in_a_row(box: Sandbox) -> None:
    path = f"{await scratch(box)}/count"
    command = shell(f"echo x >> {path}; echo ran", call_id=CALL_ID)
    same((await box.run(command)).stdout, b"ran\n", "first output")
    for _ in range(3):
        # It may be told the same result again, or that there is no more to tell; never run.
        with suppress(KeyError, ValueError, SandboxError):
            same((await box.run(command)).stdout, b"ran\n", "later output")
    same(await box.read_file(path), b"x\n", "executions")


@check("calls.once-at-once", "asked for twice at the same time, a call id is executed once")
async def once_at_once(box: Sandbox) -> None:
    path = f"{await scratch(box)}/count"
    command = shell(f"echo x >> {path}; sleep 0.3; echo ran", call_id=CALL_ID)
    outcomes = await asyncio.gather(*(box.run(command) for _ in range(4)), return_exceptions=True)
    ran = [one for one in outcomes if not isinstance(one, BaseException)]
    true(ran and {one.stdout for one in ran} == {b"ran\n"}, f"outcomes {outcomes}")
    true(
        all(
            isinstance(one, (KeyError, ValueError, SandboxError))
            for one in outcomes
            if isinstance(one, BaseException)
        ),
        "errors",
    )
    same(await box.read_file(path), b"x\n", "executions")


@check("calls.stdin-later", "a call started with its input open takes it in pieces until it is closed")
async def stdin_later(box: Sandbox) -> None:
    call_id = await box.start(Command(("cat",), stdin=None))
    await box.send_stdin(call_id, b"one ")

    async def echoed() -> bool:
        return (await box.progress(call_id)).stdout == b"one "

    await until(echoed)
    await box.send_stdin(call_id, b"two", close=True)
    same((await box.result(call_id)).stdout, b"one two", "output")


@check("box.ref", "a sandbox has a name to attach to")
async def ref(box: Sandbox) -> None:
    true(isinstance(box.ref, str) and box.ref, f"ref {box.ref!r}")


@check("box.closed", "after close every method says that the sandbox is gone, and close may be said again")
async def closed(box: Sandbox) -> None:
    call_id = await box.start(shell("sleep 300"))
    await box.close()
    await box.close()
    await all_raise(
        SandboxGone,
        box.run(Command(("true",))),
        box.start(Command(("true",))),
        box.result(call_id),
        box.progress(call_id),
        box.send_stdin(call_id, b""),
        box.kill(call_id),
        box.jobs(),
        box.read_file("/etc/passwd"),
        box.write_file("/tmp/x", b""),
        box.stat("/tmp"),
        box.list_dir("/tmp"),
        box.detach(),
    )
    with raises(SandboxGone):
        async with box.spawn(Command(("true",))) as process:
            await process.wait()


@check("box.gone-while-waiting", "whoever waits for a command when the sandbox goes is told so")
async def gone_while_waiting(box: Sandbox) -> None:
    path = f"{await scratch(box)}/beat"
    waiting = asyncio.create_task(box.run(shell(heartbeat(path))))
    await beats(box, path)
    await box.close()
    async with asyncio.timeout(PATIENCE_S):
        outcome = (await asyncio.gather(waiting, return_exceptions=True))[0]
    true(isinstance(outcome, SandboxGone), f"the wait ended with {outcome!r}")
