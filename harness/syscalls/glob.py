"""`glob`: find files by name, over the sandbox's own directory lists: nothing of the image is used."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from pydantic import Field

from harness.syscalls.base import Access, Arguments, Context, Outcome, resolve
from harness.syscalls.faults import told
from harness.syscalls.globs import matches
from sandbox.errors import SandboxError
from sandbox.protocol import FileStat

MAX_ENTRIES = 200_000
"""Looked at in one walk."""
MAX_DEPTH = 64
AT_ONCE = 8
FEW = 100
"""Names that are matched at once, without leaving the loop."""


class Glob(Arguments):
    pattern: str = Field(
        min_length=1,
        max_length=1_000,
        description="E.g. `*.py` (at any depth), `src/**/*.{c,h}`; relative to `path`. `.git` is left out.",
    )
    path: str = Field(".", min_length=1, description="Directory to look in.")
    sort: Literal["name", "newest"] = "name"
    limit: int = Field(200, ge=1, le=5_000)


def access(arguments: Glob, cwd: str) -> Access:
    path = resolve(arguments.path, cwd)
    return Access(reads=(path,), path=path)


@dataclass
class _Walk:
    found: list[tuple[str, FileStat]] = field(default_factory=list)
    entries: int = 0
    unread: int = 0
    cut: bool = False


async def glob(context: Context, arguments: Glob) -> Outcome:
    root = resolve(arguments.path, context.cwd)
    matches(arguments.pattern, "")  # Refuses a pattern that is too much before the walk begins.
    walk = _Walk()
    with told(root):
        level = await context.sandbox.list_dir(root)
    todo = await _taken(walk, [""], [level], arguments.pattern)
    # Level by level, so that a tree made to be endless costs depth, not recursion.
    for _ in range(1, MAX_DEPTH):
        below: list[str] = []
        for at in range(0, len(todo), AT_ONCE):
            if walk.cut:
                break
            batch = todo[at : at + AT_ONCE]
            lists = await asyncio.gather(
                *(_list(context, walk, f"{root.rstrip('/')}/{name}") for name in batch)
            )
            below += await _taken(walk, [f"{name}/" for name in batch], lists, arguments.pattern)
        todo = below
    return _told(walk, arguments, root)


async def _list(context: Context, walk: _Walk, path: str) -> list[FileStat]:
    try:
        return await context.sandbox.list_dir(path)
    except SandboxError:
        raise
    except OSError:
        walk.unread += 1  # Not permitted, or gone since: said at the end.
        return []


async def _taken(
    walk: _Walk, prefixes: Sequence[str], lists: Sequence[list[FileStat]], pattern: str
) -> list[str]:
    """Keep what matches; returns the directories to go into. Aside, where there are many names to look at."""

    def take() -> list[str]:
        pairs = zip(prefixes, lists, strict=True)
        return [name for prefix, entries in pairs for name in _take(walk, prefix, entries, pattern)]

    return take() if sum(map(len, lists)) < FEW else await asyncio.to_thread(take)


def _take(walk: _Walk, prefix: str, entries: list[FileStat], pattern: str) -> list[str]:
    below = []
    walk.entries += len(entries)
    walk.cut = walk.entries > MAX_ENTRIES
    for entry in entries:
        name = entry.path.rsplit("/", 1)[-1]
        relative = prefix + name
        if entry.kind == "directory" and name != ".git":
            below.append(relative)
        elif entry.kind != "directory" and matches(pattern, relative):
            walk.found.append((relative, entry))
    return below


def _told(walk: _Walk, arguments: Glob, root: str) -> Outcome:
    if arguments.sort == "newest":
        walk.found.sort(key=lambda item: (-item[1].mtime_ns, item[0]))
    else:
        walk.found.sort(key=lambda item: item[0])
    lines = [name for name, _ in walk.found[: arguments.limit]]
    more = len(walk.found) - len(lines)
    if more:
        lines.append(f"[… {more:,} more; raise `limit` or narrow the pattern]")
    if walk.cut:
        lines.append(f"[stopped after {walk.entries:,} entries; name a smaller `path`]")
    if walk.unread:
        lines.append(f"[{walk.unread:,} directories could not be read]")
    body = "\n".join(lines) or f"[no file below {root} matches {arguments.pattern}]"
    return Outcome(body, None, {"path": root, "found": len(walk.found)})
