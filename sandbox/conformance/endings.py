"""The exec contract: what ends a command before its time, and what lives on after it."""

from __future__ import annotations

import asyncio

from sandbox.conformance.asking import (
    PATIENCE_S,
    ask,
    beats,
    dead,
    heartbeat,
    output,
    same,
    scratch,
    settled,
    shell,
    size_of,
    true,
    until,
)
from sandbox.conformance.registry import check
from sandbox.protocol import Sandbox

SHORT_S = 1.0


async def times_out(box: Sandbox, text: str, path: str) -> None:
    """The command runs into its timeout and everything that beats stops."""
    async with asyncio.timeout(60):
        done = await ask(box, text, timeout_s=SHORT_S)
    true(done.timed_out, "not marked as timed out")
    same(done.jobs, 0, "processes that live on")
    await dead(box, path)


@check("timeout.plain", "a command over its time is ended, marked, and keeps the output it had")
async def plain(box: Sandbox) -> None:
    done = await ask(box, "echo early; echo warned >&2; sleep 300", timeout_s=SHORT_S)
    same((done.timed_out, done.cancelled), (True, False), "marks")
    same((done.stdout, done.stderr), (b"early\n", b"warned\n"), "partial output")
    true(done.signal in (9, 15) and done.exit_code == 128 + done.signal, f"{done.exit_code}, {done.signal}")
    true(SHORT_S <= done.duration_s < 60, f"duration {done.duration_s}")


@check("timeout.in-time", "a command within its time is not marked")
async def in_time(box: Sandbox) -> None:
    done = await ask(box, "sleep 0.2; echo done", timeout_s=60)
    same((done.timed_out, done.exit_code, done.stdout), (False, 0, b"done\n"), "outcome")


@check("timeout.children", "children end with the command")
async def children(box: Sandbox) -> None:
    path = f"{await scratch(box)}/beat"
    await times_out(box, f"sh -c '{heartbeat(path)}'; true", path)


@check("timeout.background", "background children end with the command")
async def background(box: Sandbox) -> None:
    path = f"{await scratch(box)}/beat"
    await times_out(box, f"({heartbeat(path)}) & sleep 300", path)


@check("timeout.setsid", "children in a session of their own end with the command")
async def own_session(box: Sandbox) -> None:
    path = f"{await scratch(box)}/beat"
    await times_out(box, f"setsid sh -c '{heartbeat(path)}' & sleep 300", path)


@check("timeout.double-fork", "daemons that left their parents end with the command")
async def double_fork(box: Sandbox) -> None:
    path = f"{await scratch(box)}/beat"
    await times_out(
        box, f"( setsid sh -c '{heartbeat(path)}' >/dev/null 2>&1 </dev/null & ); sleep 300", path
    )


@check("timeout.stubborn", "a tree that ignores TERM, HUP and INT is ended all the same")
async def stubborn(box: Sandbox) -> None:
    path = f"{await scratch(box)}/beat"
    ignore = 'trap "" TERM HUP INT'
    await times_out(
        box, f"{ignore}; ( setsid sh -c '{ignore}; {heartbeat(path)}' & ); sleep 300; sleep 300", path
    )


@check("timeout.grace", "a command may put its affairs in order when it is told to end")
async def grace(box: Sandbox) -> None:
    done = await ask(
        box, "trap 'echo bye; exit 3' TERM; echo hi; while :; do sleep 0.1; done", timeout_s=SHORT_S
    )
    same((done.stdout, done.exit_code, done.signal, done.timed_out), (b"hi\nbye\n", 3, None, True), "outcome")


@check("timeout.others-live", "one command's timeout ends no other")
async def others_live(box: Sandbox) -> None:
    path = f"{await scratch(box)}/beat"
    other = await box.start(shell(heartbeat(path)))
    await beats(box, path)
    true((await ask(box, "sleep 300", timeout_s=SHORT_S)).timed_out, "not timed out")
    await beats(box, path)
    await box.kill(other)
    await dead(box, path)


@check(
    "cancel.ends-the-tree", "when the awaiting task is cancelled, everything of the command has ended first"
)
async def cancel_ends_the_tree(box: Sandbox) -> None:
    there = await scratch(box)
    text = f"( setsid sh -c '{heartbeat(there + '/daemon')}' & ); {heartbeat(there + '/main')}"
    task = asyncio.create_task(box.run(shell(text)))
    await beats(box, f"{there}/daemon")
    await beats(box, f"{there}/main")
    task.cancel()
    outcome = (await asyncio.gather(task, return_exceptions=True))[0]
    true(isinstance(outcome, asyncio.CancelledError), f"the task ended with {outcome!r}")
    await dead(box, f"{there}/daemon")
    await dead(box, f"{there}/main")
    same(dict(await box.jobs()), {}, "processes left")


@check("cancel.many", "twenty commands cancelled at once leave nothing, and the sandbox answers")
async def cancel_many(box: Sandbox) -> None:
    tasks = [asyncio.create_task(ask(box, "sleep 300 & sleep 300")) for _ in range(20)]
    await asyncio.sleep(0.3)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    same(dict(await box.jobs()), {}, "processes left")
    same(await output(box, "echo fine"), b"fine\n", "output")


@check("jobs.do-not-delay", "a background child that holds the output open does not delay the result")
async def jobs_do_not_delay(box: Sandbox) -> None:
    async with asyncio.timeout(PATIENCE_S):
        done = await ask(box, "sleep 300 & echo hi")
    same((done.exit_code, done.stdout, done.timed_out), (0, b"hi\n", False), "outcome")


@check("jobs.counted", "what lives on after a call is counted, listed under its call id, and gone after kill")
async def jobs_counted(box: Sandbox) -> None:
    there = await scratch(box)
    call_id = await box.start(
        shell(f"({heartbeat(there + '/a')}) & setsid sh -c '{heartbeat(there + '/b')}' & exit 4")
    )
    done = await box.result(call_id)
    same(done.exit_code, 4, "exit code")
    await beats(box, f"{there}/a")
    await beats(box, f"{there}/b")
    true(done.jobs >= 2, f"{done.jobs} jobs counted")
    listed = await box.jobs()
    true(listed.get(call_id, 0) >= 2, f"listed: {dict(listed)}")
    await box.kill(call_id)
    await settled(box, call_id)
    await dead(box, f"{there}/a")
    await dead(box, f"{there}/b")


@check("jobs.one", "one sleeping child is one job")
async def jobs_one(box: Sandbox) -> None:
    done = await ask(box, "sleep 300 &", call_id="c0000000000000aa")
    same(done.jobs, 1, "jobs of the result")
    same(dict(await box.jobs()), {"c0000000000000aa": 1}, "jobs listed")


@check("jobs.own-calls", "killing one call's jobs leaves another's alone")
async def jobs_own_calls(box: Sandbox) -> None:
    there = await scratch(box)
    first = await box.start(shell(f"({heartbeat(there + '/a')}) &"))
    second = await box.start(shell(f"({heartbeat(there + '/b')}) &"))
    await beats(box, f"{there}/a")
    await box.kill(first)
    await dead(box, f"{there}/a")
    await beats(box, f"{there}/b")
    await box.kill(second)
    await dead(box, f"{there}/b")


@check("jobs.late-output", "what a job prints later is no part of the result")
async def jobs_late_output(box: Sandbox) -> None:
    path = f"{await scratch(box)}/late"
    done = await ask(box, f"(sleep 0.4; echo late; echo x > {path}) & echo now")
    same(done.stdout, b"now\n", "output")

    async def written() -> bool:
        return bool(await size_of(box, path))

    await until(written)


@check("jobs.no-zombies", "processes orphaned by a call are reaped")
async def jobs_no_zombies(box: Sandbox) -> None:
    await output(box, "i=0; while [ $i -lt 200 ]; do (true &); i=$((i+1)); done")

    async def reaped() -> bool:
        return not await box.jobs()

    await until(reaped)


@check("kill.running", "kill ends a running call, whose result says so and keeps its output")
async def kill_running(box: Sandbox) -> None:
    path = f"{await scratch(box)}/beat"
    call_id = await box.start(shell(f"echo early; {heartbeat(path)}"))
    await beats(box, path)
    await box.kill(call_id)
    done = await box.result(call_id)
    same((done.cancelled, done.timed_out, done.stdout), (True, False, b"early\n"), "outcome")
    true(done.signal in (9, 15), f"signal {done.signal}")
    await dead(box, path)


@check("kill.nothing", "killing what does not run is no error")
async def kill_nothing(box: Sandbox) -> None:
    await box.kill("c0000000000000ff")
    call_id = await box.start(shell("true"))
    await box.result(call_id)
    await box.kill(call_id)
    await box.kill(call_id)
