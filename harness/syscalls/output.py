"""How a command's outcome reads to the model: streams apart, what was left out counted, the end plain."""

from __future__ import annotations

import signal

from harness.messages import JsonObject
from harness.syscalls.base import Code, Outcome
from sandbox.protocol import Completed, Stream

LONG_S = 10.0
"""Durations from this on are told, in whole seconds: a shorter one would only make replays differ."""


def shown(stream: Stream, data: bytes, total: int, spill: str | None) -> str:
    """One stream: whole, or its head and tail with what lies between counted and said where it is."""
    if total <= len(data):
        return decoded(data)
    head, tail = halves(data)
    where = (
        f"all of it up to the spill limit is in {spill}, which `read` opens" if spill else "it was not kept"
    )
    left_out = total - len(data)
    return (
        f"{decoded(head)}\n[… {left_out:,} of {total:,} bytes of {stream} are left out here; {where} …]\n"
        f"{decoded(tail)}"
    )


def halves(data: bytes) -> tuple[bytes, bytes]:
    """Head and tail of output that was truncated: the sandbox keeps half a bound of each."""
    half = len(data) // 2
    return data[:half], data[half:]


def decoded(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")


def streams(done: Completed) -> str:
    """Both streams, labelled where there are two."""
    out = shown("stdout", done.stdout, done.stdout_total, done.spill.get("stdout"))
    err = shown("stderr", done.stderr, done.stderr_total, done.spill.get("stderr"))
    return labelled(out, err)


def labelled(out: str, err: str) -> str:
    out, err = out.rstrip("\n"), err.rstrip("\n")
    if err:
        err = f"<stderr>\n{err}\n</stderr>"
    if out and err:
        out = f"<stdout>\n{out}\n</stdout>\n"
    return out + err


def ending(done: Completed, timeout_s: float) -> tuple[Code | None, str]:
    """The error code, if any, and how the command ended, in words. A failing command is no error of ours."""
    if done.cancelled:
        return (
            "cancelled",
            "cancelled: the command and all it started were ended; the output above is what it had written",
        )
    if done.timed_out:
        return "timed_out", (
            f"timed out after {timeout_s:g} s: the command and all it started were ended; the output above "
            "is what it had written. Give it `background`, or make it do less"
        )
    if done.disk_exceeded:
        return (
            "disk_full",
            "stopped: the workspace outgrew its limit, or the disk beneath it is nearly full. Remove what "
            "is not needed before going on",
        )
    if done.oom_killed:
        return (
            "out_of_memory",
            f"exit code {done.exit_code}; the sandbox ran out of memory and killed a process of it",
        )
    if done.signal is not None:
        return (
            None,
            f"ended by signal {done.signal} ({_signal_name(done.signal)}), exit code {done.exit_code}",
        )
    hints = {126: ": found, but not executable", 127: ": no such command"}
    return None, f"exit code {done.exit_code}{hints.get(done.exit_code, '')}"


def outcome(done: Completed, timeout_s: float, held: str, *notes: str) -> Outcome:
    """The whole of a finished command as a result. Its last line is ours, whatever the command printed."""
    code, sentence = ending(done, timeout_s)
    body = streams(done)
    took = f"it took {done.duration_s:.0f} s" if done.duration_s >= LONG_S and not done.timed_out else ""
    quiet = "" if body else "no output"
    tail = "; ".join(part for part in (sentence, quiet, took, *notes) if part)
    return Outcome(f"{body}\n[{tail}]".lstrip("\n"), code, facts(done), held)


def facts(done: Completed) -> JsonObject:
    """For the screen and for recovery."""
    return {
        "exit_code": done.exit_code,
        "signal": done.signal,
        "timed_out": done.timed_out,
        "cancelled": done.cancelled,
        "oom_killed": done.oom_killed,
        "disk_exceeded": done.disk_exceeded,
        "stdout_bytes": done.stdout_total,
        "stderr_bytes": done.stderr_total,
        "spill": dict(done.spill),
        "duration_s": round(done.duration_s, 3),
        "processes_left": done.jobs,
    }


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"
