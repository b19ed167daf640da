"""`job`: look at, type into or end a `bash` call that outlived its call (job control)."""

from __future__ import annotations

import asyncio
import time
from typing import Literal

from pydantic import Field

from harness.process.session import Job
from harness.syscalls.base import Access, Arguments, Context, Outcome, Refused
from harness.syscalls.bash import kill_job, so_far
from harness.syscalls.output import decoded, ending, facts, halves, labelled
from sandbox.protocol import Completed, Progress, Stream

STREAMS: tuple[Stream, Stream] = ("stdout", "stderr")


class JobArguments(Arguments):
    action: Literal["poll", "input", "kill", "list"]
    job: str | None = Field(None, description="Its name, e.g. job-1; not for `list`.")
    input: str | None = Field(
        None, description="For `input`: text for its standard input, newlines included."
    )
    close_stdin: bool = Field(False, description="For `input`: end of file after the text.")
    wait_s: float = Field(
        0, ge=0, le=600, description="Wait up to this long for its end, before it is looked at (poll, input)."
    )


def access(arguments: JobArguments, cwd: str) -> Access:
    return Access(writes=("jobs",))


def only_looks(arguments: JobArguments) -> bool:
    return arguments.action in ("poll", "list")


async def job(context: Context, arguments: JobArguments) -> Outcome:
    if arguments.action == "list":
        return await _list(context)
    found = _find(context, arguments.job)
    if arguments.action == "kill":
        return await _kill(context, found)
    if arguments.action == "input":
        await _type(context, found, arguments)
    return await _poll(context, found, min(arguments.wait_s, context.limits.yield_s))


def _find(context: Context, name: str | None) -> Job:
    jobs = context.session.jobs
    if name is None:
        raise Refused("bad_arguments", "job: is required for this action")
    if name not in jobs:
        known = ", ".join(jobs) or "none"
        raise Refused("not_found", f"there is no job {name[:100]!r}; the session's jobs: {known}")
    found = jobs[name]
    if found.gone and found.done is None:
        raise Refused("failed", f"{name} ended with the container that it ran in; its end is not known")
    return found


async def _list(context: Context) -> Outcome:
    alive = await context.sandbox.jobs()
    lines = []
    for one in context.session.jobs.values():
        living = alive.get(one.exec_id, 0)
        state = f"{living} processes" if living else "ended"
        first = one.command.strip().splitlines()[0][:120] if one.command.strip() else ""
        lines.append(f"{one.name}: {state}: {first}")
    return Outcome("\n".join(lines) or "no jobs", None, {"jobs": len(lines)})


async def _type(context: Context, found: Job, arguments: JobArguments) -> None:
    if not found.takes_input or found.done is not None:
        raise Refused(
            "failed",
            f"{found.name} takes no input: it has ended, or was started without `background` (empty stdin)",
        )
    if arguments.input is None and not arguments.close_stdin:
        raise Refused("bad_arguments", "input: is required for this action, or close_stdin")
    data = (arguments.input or "").encode(errors="backslashreplace")
    try:
        async with asyncio.timeout(context.limits.yield_s):
            await context.sandbox.send_stdin(found.exec_id, data, close=arguments.close_stdin)
    except BrokenPipeError:
        raise Refused("failed", f"{found.name} has closed its standard input; poll it") from None
    except TimeoutError:
        raise Refused("timed_out", f"{found.name} does not read its input") from None


async def _kill(context: Context, found: Job) -> Outcome:
    try:
        await kill_job(context.sandbox, found)
    except KeyError:
        raise Refused("failed", f"the sandbox no longer knows {found.name}") from None
    return _ended(context, found)


async def _poll(context: Context, found: Job, wait_s: float) -> Outcome:
    if found.done is None:
        try:
            # A moment at least, so that what has ended is seen to have ended.
            async with asyncio.timeout(max(wait_s, 0.05)):
                found.done = await context.sandbox.result(found.exec_id, keep=True)
        except TimeoutError:
            return await _running(context, found)
        except KeyError:
            raise Refused("failed", f"the sandbox no longer knows {found.name}") from None
    return _ended(context, found)


async def _running(context: Context, found: Job) -> Outcome:
    now = await context.sandbox.progress(found.exec_id, tail_bytes=context.limits.output_bytes)
    fresh = Progress(
        stdout=_unseen(now.stdout, now.stdout_total - found.seen["stdout"]),
        stderr=_unseen(now.stderr, now.stderr_total - found.seen["stderr"]),
        stdout_total=now.stdout_total - found.seen["stdout"],
        stderr_total=now.stderr_total - found.seen["stderr"],
        running=now.running,
    )
    found.seen = {"stdout": now.stdout_total, "stderr": now.stderr_total}
    body = so_far(fresh) or "[no new output]"
    seconds = int(time.monotonic() - found.started)
    return Outcome(
        f"{body}\n[{found.name} still runs, for {seconds} s now]",
        None,
        {"job": found.name, "running": True, "seen": dict(found.seen)},
    )


def _ended(context: Context, found: Job) -> Outcome:
    done = found.done
    assert done is not None
    body = labelled(*(_rest(done, stream, found.seen[stream]) for stream in STREAMS))
    found.seen = {"stdout": done.stdout_total, "stderr": done.stderr_total}
    code, sentence = ending(done, done.duration_s)
    spill = "".join(f"; all its {stream}: {path}" for stream, path in done.spill.items())
    details = facts(done) | {"job": found.name, "running": False}
    return Outcome(
        f"{body}\n[{found.name} has ended: {sentence}{spill}]".lstrip("\n"),
        # Being ended is what `kill` was asked for, and no failure of this call.
        None if code == "cancelled" else code,
        details,
        found.exec_id,
    )


def _rest(done: Completed, stream: Stream, seen: int) -> str:
    """What was written after `seen` bytes, as far as it was kept."""
    data, total = (done.stdout, done.stdout_total) if stream == "stdout" else (done.stderr, done.stderr_total)
    if total > len(data):
        data = halves(data)[1]  # The head was seen, or the part after it was not kept.
    fresh = _unseen(data, total - seen)
    missing = total - seen - len(fresh)
    return (f"[… {missing:,} bytes of {stream} are left out here …]\n" if missing else "") + decoded(fresh)


def _unseen(data: bytes, count: int) -> bytes:
    return data[-count:] if count > 0 else b""
