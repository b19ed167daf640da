"""`write` and `edit`: change files, whole and atomically. An edit never overwrites what it has not seen."""

from __future__ import annotations

import asyncio
from hashlib import sha256

from pydantic import Field

from harness.syscalls.base import Access, Arguments, Context, Outcome, Refused, resolve
from harness.syscalls.edit import Replacement, apply
from harness.syscalls.faults import told
from sandbox.errors import SandboxError
from sandbox.protocol import Sandbox


class Write(Arguments):
    path: str = Field(min_length=1)
    content: str = Field(description="The whole of the file. Missing directories are made.")


class Edit(Arguments):
    path: str = Field(min_length=1)
    edits: tuple[Replacement, ...] = Field(
        min_length=1,
        max_length=200,
        description="All are looked up in the file as it is now, and done together or not at all.",
    )


def access(arguments: Write | Edit, cwd: str) -> Access:
    path = resolve(arguments.path, cwd)
    return Access(writes=(path,), path=path)


async def write(context: Context, arguments: Write) -> Outcome:
    path = resolve(arguments.path, context.cwd)
    data = _encoded(arguments.content, "content")
    with told(path):
        await context.announce(path, await digest_of(context.sandbox, path), _digest(data))
        await context.sandbox.write_file(path, data, parents=True)
    return Outcome(
        f"wrote {len(data):,} bytes to {path}",
        None,
        {"path": path, "bytes": len(data), "sha256": _digest(data)},
    )


async def edit(context: Context, arguments: Edit) -> Outcome:
    path = resolve(arguments.path, context.cwd)
    for number, replacement in enumerate(arguments.edits):
        _encoded(replacement.old, f"edits.{number}.old")
        _encoded(replacement.new, f"edits.{number}.new")
    with told(path):
        before = await context.sandbox.read_file(path)
        edited = await asyncio.to_thread(apply, before, arguments.edits)
        await context.announce(path, _digest(before), _digest(edited.data))
        # Compare and swap: whoever wrote meanwhile, a job perhaps, is not overwritten.
        await context.sandbox.write_file(path, edited.data, expect=_digest(before))
    places = ", ".join(str(line) for line in edited.lines[:20]) + (", …" if len(edited.lines) > 20 else "")
    count = len(edited.lines)
    plural = "s" if count != 1 else ""
    return Outcome(
        f"edited {path}: {count} replacement{plural}, at line{plural} {places}",
        None,
        {
            "path": path,
            "bytes": len(edited.data),
            "sha256": _digest(edited.data),
            "sha256_before": _digest(before),
        },
    )


async def digest_of(box: Sandbox, path: str) -> str | None:
    """SHA-256 of what a file holds now; empty when there is none, None when it cannot be read."""
    try:
        return _digest(await box.read_file(path))
    except SandboxError:
        raise
    except FileNotFoundError:
        return ""
    except (OSError, ValueError):
        return None


def _encoded(text: str, where: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as exc:
        raise Refused(
            "bad_arguments", f"{where}: character {exc.start} is a lone surrogate, which has no UTF-8 form"
        ) from None


def _digest(data: bytes) -> str:
    return sha256(data).hexdigest()
