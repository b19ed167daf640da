"""`grep`: search file contents with the image's ripgrep, else with its find and grep. Output is bounded."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator
from typing import Any

from pydantic import Field

from harness.syscalls.base import Access, Arguments, Context, Outcome, Refused, resolve
from harness.syscalls.bash import find_tools
from harness.syscalls.faults import told
from harness.syscalls.output import decoded, ending, facts, halves
from sandbox.protocol import Command, Completed

LINE_CHARS = 400
"""Shown of one line."""
_OUTPUT_BYTES = 1 << 20


class Grep(Arguments):
    pattern: str = Field(
        min_length=1, max_length=10_000, description="Regular expression (extended POSIX works everywhere)."
    )
    path: str = Field(".", min_length=1, description="File, or directory that is searched through.")
    glob: str | None = Field(None, min_length=1, description="Only files whose name matches, e.g. `*.py`.")
    ignore_case: bool = False
    context: int = Field(0, ge=0, le=20, description="Lines shown around each match.")
    limit: int = Field(100, ge=1, le=2_000, description="Matching lines at most.")


def access(arguments: Grep, cwd: str) -> Access:
    path = resolve(arguments.path, cwd)
    return Access(reads=(path,), path=path)


async def grep(context: Context, arguments: Grep) -> Outcome:
    path = resolve(arguments.path, context.cwd)
    with told(path):
        await context.sandbox.stat(path)
    tools = await find_tools(context.session, context.sandbox)
    argv = ripgrep(arguments, path) if tools.ripgrep else plain(arguments, path)
    command = Command(argv, cwd="/", output_bytes=_OUTPUT_BYTES, call_id=context.exec_id)
    try:
        done = await context.sandbox.run(command)
    except ValueError as exc:
        raise Refused("bad_arguments", f"pattern: {exc}") from exc
    code, sentence = ending(done, context.limits.command_s)
    if code is not None:
        raise Refused(code, f"{sentence}. Narrow `path` or `glob`")
    lines = _whole_lines(done)
    shown, matches = (_from_json if tools.ripgrep else _from_text)(lines, arguments)
    if not matches:
        _none_or_wrong(done, tools.ripgrep)
    notes = []
    if matches >= arguments.limit or done.truncated:
        notes.append("[more may match; narrow the search or raise `limit`]")
    elif done.exit_code > 1:
        notes.append(f"[not all could be searched: {decoded(done.stderr)[:300].strip()}]")
    body = "\n".join([*shown, *notes]) or f"[nothing matches in {path}]"
    return Outcome(body, None, facts(done) | {"path": path, "matches": matches})


def ripgrep(arguments: Grep, path: str) -> tuple[str, ...]:
    """Its own configuration is ignored, and the order is by path, so that results are the same each time."""
    options = ["rg", "--no-config", "--json", "--sort", "path", "--hidden", "--glob", "!.git"]
    options += ["--context", str(arguments.context)] if arguments.context else []
    options += ["--glob", arguments.glob] if arguments.glob else []
    options += ["--ignore-case"] if arguments.ignore_case else []
    return (*options, "--regexp", arguments.pattern, "--", path)


def plain(arguments: Grep, path: str) -> tuple[str, ...]:
    """What every userland has, busybox included: no recursion or file filter of grep's own."""
    # `find` takes a leading dash for an option; an absolute path has none.
    options = ["find", path, "-name", ".git", "-prune", "-o", "-type", "f"]
    options += ["-name", arguments.glob] if arguments.glob else []
    options += ["-exec", "grep", "-nHE"]
    options += ["-i"] if arguments.ignore_case else []
    options += ["-C", str(arguments.context)] if arguments.context else []
    return (*options, "-e", arguments.pattern, "--", "{}", "+")


def _whole_lines(done: Completed) -> list[str]:
    """Of truncated output the head, without its last, torn line."""
    if done.stdout_total <= len(done.stdout):
        return decoded(done.stdout).splitlines()
    return decoded(halves(done.stdout)[0]).split("\n")[:-1]


def _from_json(lines: list[str], arguments: Grep) -> tuple[list[str], int]:
    shown: list[str] = []
    matches = 0
    for kind, data in _events(lines):
        if kind not in ("match", "context"):
            continue
        if kind == "match":
            if matches == arguments.limit:
                break
            matches += 1
        text = _value(data.get("lines")).rstrip("\r\n")
        mark = ":" if kind == "match" else "-"
        shown.append(f"{_value(data.get('path'))}{mark}{data.get('line_number')}{mark}{_clipped(text)}")
    return shown, matches


def _events(lines: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """What the guest's program printed, as far as it is what was asked for."""
    for line in lines:
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if (
            isinstance(event, dict)
            and isinstance(event.get("type"), str)
            and isinstance(event.get("data"), dict)
        ):
            yield event["type"], event["data"]


def _value(field: object) -> str:
    """Text, or bytes in base64 where it is not UTF-8."""
    if not isinstance(field, dict):
        return "?"
    if isinstance(field.get("text"), str):
        return str(field["text"])
    try:
        return decoded(base64.b64decode(str(field.get("bytes", "")), validate=True))
    except binascii.Error:
        return "?"


def _from_text(lines: list[str], arguments: Grep) -> tuple[list[str], int]:
    shown = lines[: arguments.limit * (1 + 2 * arguments.context)]
    return [_clipped(line, LINE_CHARS + 200) for line in shown], len(shown)


def _clipped(text: str, most: int = LINE_CHARS) -> str:
    return text if len(text) <= most else f"{text[:most]} [… {len(text) - most:,} more characters …]"


def _none_or_wrong(done: Completed, is_ripgrep: bool) -> None:
    """No match is a result; a pattern that does not compile, or a missing program, is an error."""
    if done.exit_code == 127:
        raise Refused("not_found", "this image has neither ripgrep nor find and grep; `glob` and `read` work")
    if done.exit_code > 1 or (done.exit_code == 1 and not is_ripgrep and done.stderr):
        raise Refused("failed", f"the search failed: {decoded(done.stderr)[:1_000].strip()}")
