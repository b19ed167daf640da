"""`bash`: run shell text. The working directory carries over to the next call, the environment does not.

How the directory comes back: when the shell leaves and stands elsewhere than it began, it writes where into
a file named for this call, and the host reads that file. Nothing is parsed out of the output, so the output
cannot forge it; a guest that writes the file itself can only lie about its own directory.
"""

from __future__ import annotations

import asyncio
import contextlib
import shlex
from collections.abc import AsyncIterator
from dataclasses import replace

from pydantic import Field

from harness.process.session import WORKSPACE, Job, Session, Tools
from harness.syscalls.base import Access, Arguments, Context, Outcome, Refused, resolve
from harness.syscalls.faults import told
from harness.syscalls.output import decoded, labelled, outcome
from sandbox.errors import SandboxError
from sandbox.protocol import Command, Completed, Progress, Sandbox

MAX_COMMAND = 100_000
"""Bytes of shell text; the kernel of the guest takes 128 KiB in one argument."""
FIRST_LOOK_S = 0.5
"""How long a background command is watched for an early failure."""
WATCH_S = 0.2
_TAIL = 4096


class Bash(Arguments):
    command: str = Field(
        min_length=1, description="Shell text, run by bash (sh where the image has no bash)."
    )
    cwd: str | None = Field(None, description="Directory to run in; without one, where the last call ended.")
    timeout_s: float | None = Field(
        None,
        gt=0,
        description="Seconds after which it is ended; the policy's limit is the default and the most.",
    )
    background: bool = Field(
        False,
        description="Come back at once with a job, e.g. for a server; its stdin stays open for `job` input.",
    )


def access(arguments: Bash, cwd: str) -> Access:
    # Shell text is not read to guess what it touches: it may touch all.
    where = resolve(arguments.cwd, cwd) if arguments.cwd else None
    return Access(writes=("/", "jobs"), command=arguments.command, cwd=where)


async def bash(context: Context, arguments: Bash) -> Outcome:
    box = context.sandbox
    tools = await find_tools(context.session, box)
    if tools.shell is None:
        raise Refused(
            "not_found", "this image has neither bash nor sh; `read`, `write`, `edit` and `glob` work"
        )
    command = await _command(context, arguments, tools.shell)
    async with _ended_if_cancelled(context):
        try:
            await box.start(command)
        except ValueError as exc:
            raise Refused("bad_arguments", f"command: {exc}") from exc
        return await _joined(context, arguments, command)


async def rejoin(context: Context, arguments: Bash) -> Outcome:
    """The outcome of a command that an earlier harness started under this id: as if it had not been away.

    KeyError when the sandbox does not know the id.
    """
    cwd = resolve(arguments.cwd, context.cwd) if arguments.cwd else context.cwd
    # By which shell it was started is past asking.
    command = _asked(context, arguments, "sh", cwd)
    async with _ended_if_cancelled(context):
        return await _joined(context, arguments, command)


@contextlib.asynccontextmanager
async def _ended_if_cancelled(context: Context) -> AsyncIterator[None]:
    """A command that nobody waits for any more must not run on: no job names it."""
    try:
        yield
    except asyncio.CancelledError:
        with contextlib.suppress(SandboxError):  # Then it is gone with all the others.
            await context.sandbox.kill(context.exec_id)
        raise


async def _joined(context: Context, arguments: Bash, command: Command) -> Outcome:
    """Wait as long as a call waits; what runs on becomes a job."""
    session, exec_id = context.session, context.exec_id
    async with _watched(context):
        done = await _wait(context, FIRST_LOOK_S if arguments.background else context.limits.yield_s)
    if done is None:
        return await _as_job(context, arguments)
    notes = []
    if done.jobs:
        job = session.add_job(
            exec_id,
            arguments.command,
            takes_input=False,
            seen={"stdout": done.stdout_total, "stderr": done.stderr_total},
        )
        job.done = done
        notes.append(f"{done.jobs} processes it started still run; `job` calls them {job.name}")
    moved = await _carry_over(context, command.cwd or session.cwd, done)
    ended = outcome(done, command.timeout_s or context.limits.command_s, exec_id, *notes, *moved)
    return replace(ended, details=ended.details | {"cwd": session.cwd})


async def find_tools(session: Session, box: Sandbox) -> Tools:
    """What the image has; asked once in a session."""
    if session.tools is None:
        session.tools = await _probe(box)
    return session.tools


async def _probe(box: Sandbox) -> Tools:
    for shell in ("bash", "sh"):
        done = await box.run(Command((shell, "-c", "command -v rg >/dev/null 2>&1 && echo rg; :"), cwd="/"))
        if done.exit_code not in (126, 127):
            return Tools(shell, done.stdout.strip() == b"rg")
    return Tools(None, False)


async def _command(context: Context, arguments: Bash, shell: str) -> Command:
    size = len(arguments.command.encode(errors="surrogatepass"))
    if size > MAX_COMMAND:
        raise Refused(
            "too_large",
            f"command: {size:,} bytes of shell text; at most {MAX_COMMAND:,}. `write` a script and run it",
        )
    try:
        arguments.command.encode()
    except UnicodeEncodeError:
        raise Refused("bad_arguments", "command: this text has no UTF-8 form (a lone surrogate)") from None
    return _asked(context, arguments, shell, await _start_directory(context, arguments))


def _asked(context: Context, arguments: Bash, shell: str, cwd: str) -> Command:
    limits = context.limits
    most = context.session.budget.remaining_s() if arguments.background else limits.command_s
    return Command(
        argv=(shell, "-c", _script(cwd, _cwd_file(context.exec_id)), shell, arguments.command),
        cwd=cwd,
        stdin=None if arguments.background else b"",
        timeout_s=max(0.001, min(arguments.timeout_s or most, most)),
        output_bytes=limits.output_bytes,
        call_id=context.exec_id,
    )


async def _start_directory(context: Context, arguments: Bash) -> str:
    session = context.session
    cwd = resolve(arguments.cwd, session.cwd) if arguments.cwd else session.cwd
    try:
        with told(cwd):
            kind = (await context.sandbox.stat(cwd)).kind
    except Refused as refusal:
        if arguments.cwd is not None or refusal.code not in ("not_found", "not_directory"):
            raise
        # Running in another directory than the model believes could do harm: it is told, and asks again.
        session.cwd = WORKSPACE
        raise Refused(
            "not_found", f"{cwd} is gone; the working directory is {WORKSPACE} now. Nothing was run"
        ) from None
    if kind not in ("directory", "symlink"):
        raise Refused("not_directory", f"cwd: {cwd} is not a directory")
    return cwd


def _script(cwd: str, report: str) -> str:
    """The shell text around the model's own, which arrives as the first parameter and is shifted away."""
    leaving = f'{{ [ "$PWD" = {shlex.quote(cwd)} ] || pwd -P >{report}; }} 2>/dev/null'
    return f'trap {shlex.quote(leaving)} EXIT; eval "shift; $1"'


def _cwd_file(exec_id: str) -> str:
    return f"/tmp/.cwd-{exec_id}"


async def _wait(context: Context, seconds: float) -> Completed | None:
    """The result, or None while it still runs. Being cancelled ends the command and keeps its output."""
    box, exec_id = context.sandbox, context.exec_id
    try:
        async with asyncio.timeout(seconds):
            return await box.result(exec_id, keep=True)
    except TimeoutError:
        return None
    except asyncio.CancelledError:
        await box.kill(exec_id)
        return replace(await box.result(exec_id, keep=True), cancelled=True)


async def _as_job(context: Context, arguments: Bash) -> Outcome:
    now = await context.sandbox.progress(context.exec_id, tail_bytes=context.limits.output_bytes)
    job = context.session.add_job(
        context.exec_id,
        arguments.command,
        takes_input=arguments.background,
        seen={"stdout": now.stdout_total, "stderr": now.stderr_total},
    )
    body = so_far(now)
    text = f"still running as {job.name}; `job` polls it, types into it or ends it"
    return Outcome(
        f"{body}\n[{text}]".lstrip("\n"),
        None,
        {"job": job.name, "exec_id": job.exec_id, "running": True, "seen": dict(job.seen)},
    )


def so_far(now: Progress) -> str:
    """The output of a running command, its older part counted where it is not held."""
    out = _latest("stdout", now.stdout, now.stdout_total)
    err = _latest("stderr", now.stderr, now.stderr_total)
    return labelled(out, err)


def _latest(stream: str, data: bytes, total: int) -> str:
    before = total - len(data)
    note = f"[… {before:,} earlier bytes of {stream} …]\n" if before > 0 else ""
    return note + decoded(data)


async def _carry_over(context: Context, began: str, done: Completed) -> list[str]:
    """Take over where the shell left; a note when that failed. A `cwd` argument counts as a `cd`."""
    session = context.session
    session.cwd = began
    if done.timed_out or done.cancelled:
        return []
    try:
        raw = await context.sandbox.read_file(_cwd_file(context.exec_id), limit=4098)
        left = raw.removesuffix(b"\n").decode()
    except SandboxError:
        raise
    except FileNotFoundError:
        return []  # It ended where it began, or was replaced (`exec`), and then nobody knows.
    except (OSError, ValueError):
        return [f"the working directory could not be read back and is {session.cwd}"]
    if not left.startswith("/") or "\0" in left or len(raw) > 4096:
        return [f"the working directory could not be read back and is {session.cwd}"]
    session.cwd = left
    return [f"working directory: {left}"] if left != began else []


@contextlib.asynccontextmanager
async def _watched(context: Context) -> AsyncIterator[None]:
    """Report the command's last output while this block runs, if anybody watches."""
    if context.on_output is None:
        yield
        return
    watcher = asyncio.create_task(_report(context))
    try:
        yield
    finally:
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)


async def _report(context: Context) -> None:
    assert context.on_output is not None
    last = -1
    while True:
        await asyncio.sleep(WATCH_S)
        now = await context.sandbox.progress(context.exec_id, tail_bytes=_TAIL)
        total = now.stdout_total + now.stderr_total
        if total != last:
            context.on_output(decoded((now.stdout + now.stderr)[-_TAIL:]), total)
            last = total


async def kill_job(box: Sandbox, job: Job) -> None:
    """End all that is left of a job, and keep its result."""
    await box.kill(job.exec_id)
    done = await box.result(job.exec_id, keep=True) if job.done is None else job.done
    job.done = replace(done, jobs=0)
