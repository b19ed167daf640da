"""`merge`: take over what a child changed, file by file, where this session's own file is still as the child
found it.

Every file goes through the sandbox's own file contract and through the policy's rules on `write`; a file that
differs from what the child began with is left alone and named, never overwritten. One that is already as the
child left it counts as taken over: a merge that was cut short is simply made again.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path

from pydantic import Field

from harness.patch import shown
from harness.process.children import Changed, changed
from harness.process.session import WORKSPACE, Child
from harness.syscalls.base import Access, Arguments, Context, Outcome, Refused
from harness.words import counted
from policies.decide import Request, decide
from sandbox.checkpoints.compare import Difference
from sandbox.checkpoints.errors import CheckpointError, Damaged
from sandbox.checkpoints.packs import Packs
from sandbox.checkpoints.tree import FILE, LINK, WHITEOUT, Node
from sandbox.errors import SandboxError
from sandbox.protocol import Command, Sandbox
from sandbox.workspace import beneath, manifest

MAX_NAMED = 200
"""Paths that the result names; the rest is counted."""


class Merge(Arguments):
    child: str = Field(max_length=64, description="The name that was given to `spawn`.")
    paths: tuple[str, ...] | None = Field(
        None, max_length=1000, description="Only these, or what is beneath them; relative to the workspace."
    )


def access(arguments: Merge, cwd: str) -> Access:
    return Access(writes=(WORKSPACE,))


@dataclass
class _Done:
    merged: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)


class _Left(Exception):
    """This path is left alone; the message says why."""


async def merge(context: Context, arguments: Merge) -> Outcome:
    child = context.session.children.get(arguments.child)
    if child is None or context.children is None:
        known = ", ".join(context.session.children) or "none"
        raise Refused("not_found", f"there is no child {arguments.child!r}; there are: {known}")
    if not child.mergeable:
        raise Refused("denied", f"denied: {child.name} was started to look only, so it has nothing to merge")
    directory = context.children.directory(child)
    try:
        what = await asyncio.to_thread(changed, directory)
    except CheckpointError as exc:
        raise Refused("not_found", f"{child.name}: {exc}") from exc
    with what.store:
        return await _merge(context, what, _Beneath(directory), arguments, child)


async def _merge(context: Context, what: Changed, lower: _Beneath, arguments: Merge, child: Child) -> Outcome:
    wanted = [one for one in what.found if _asked_for(one.path, arguments.paths)]
    if not wanted:
        return Outcome(f"{child.name} changed nothing" + (" there" if arguments.paths else ""), None, {})
    done = _Done()
    for one in wanted:
        try:
            await _take(context, what.store.packs, one, lower)
        except _Left as exc:
            done.left[one.path] = str(exc)
        else:
            done.merged.append(one.path)
    merged, left = list(map(shown, done.merged)), {shown(path): why for path, why in done.left.items()}
    lines = [f"merged of {child.name}: {counted(len(merged), 'file')}"]
    lines += [f"  {path}" for path in merged[:MAX_NAMED]]
    if left:
        lines.append(f"left alone: {counted(len(left), 'file')}")
        lines += [f"  {path}: {why}" for path, why in list(left.items())[:MAX_NAMED]]
    hidden = max(0, len(merged) - MAX_NAMED) + max(0, len(left) - MAX_NAMED)
    if hidden:
        lines.append(f"  … {hidden:,} paths are not named here")
    details = {
        "child": child.name,
        "merged": merged[:MAX_NAMED],
        "left": dict(list(left.items())[:MAX_NAMED]),
    }
    return Outcome("\n".join(lines), "conflict" if left else None, details)


def _asked_for(path: str, paths: tuple[str, ...] | None) -> bool:
    if paths is None:
        return True
    plain = [one.removeprefix(f"{WORKSPACE}/").removeprefix("./").rstrip("/") for one in paths]
    return any(path == one or path.startswith(f"{one}/") for one in plain)


async def _take(context: Context, packs: Packs, one: Difference, lower: _Beneath) -> None:
    """One difference, or _Left."""
    path = f"{WORKSPACE}/{one.path}"
    try:
        path.encode()
    except UnicodeEncodeError:
        raise _Left("its name is not UTF-8") from None
    decision = decide(context.policy, Request("write", path=path))
    if decision.action != "allow":
        raise _Left(f"{decision.action}, {decision.rule}: {decision.reason}")
    before, after = one.before, one.after
    gone = after is None or after.kind == WHITEOUT
    box = context.sandbox
    try:
        if gone and before is not None and before.kind in (FILE, LINK):
            await _delete(box, path, before, packs)
        elif gone and before is None:
            raise _Left("it was the user's own file that was deleted; delete it by hand")
        elif after is not None and after.kind == FILE and (before is None or before.kind in (FILE, WHITEOUT)):
            await _write(context, path, await _expected(lower, one, before, packs), after, packs)
        elif after is not None and after.kind == LINK and before is None:
            await _link(box, path, after, packs)
        else:
            raise _Left(f"{one.kind} {one.node}: only files, and new links, are merged; do this by hand")
    except SandboxError:
        raise
    except FileNotFoundError:
        raise _Left("it is not here any more") from None
    except Damaged:
        raise _Left("what was stored of it is damaged") from None
    except (OSError, ValueError) as exc:
        raise _Left(str(exc) if isinstance(exc, ValueError) else exc.strerror or str(exc)) from None


async def _expected(lower: _Beneath, one: Difference, before: Node | None, packs: Packs) -> str:
    """SHA-256 of what the child found at this path; empty for nothing."""
    if before is None:
        return await asyncio.to_thread(lower.digest, one.path)
    return "" if before.kind == WHITEOUT else await _held(packs, before)


async def _write(context: Context, path: str, expected: str, after: Node, packs: Packs) -> None:
    if after.size > context.limits.file_bytes:
        raise _Left(f"{after.size:,} bytes are more than a file may have here (limits.file_bytes)")
    data = await asyncio.to_thread(packs.read, after.digest)
    try:
        await context.sandbox.write_file(
            path, data, mode=after.mode & 0o777, expect=expected, parents=not expected
        )
    except FileExistsError:
        if await _holds(context.sandbox, path) != sha256(data).hexdigest():
            raise _Left("it has changed here since the child was started") from None


async def _delete(box: Sandbox, path: str, before: Node, packs: Packs) -> None:
    try:
        found = await box.stat(path)
    except FileNotFoundError:
        return
    if before.kind == LINK:
        same = found.target == os.fsdecode(packs.read(before.digest))
    else:
        same = found.kind == "file" and await _holds(box, path) == await _held(packs, before)
    if not same:
        raise _Left("it has changed here since the child was started")
    await _run(box, "rm", "-f", "--", path)


async def _link(box: Sandbox, path: str, after: Node, packs: Packs) -> None:
    target = os.fsdecode(packs.read(after.digest))
    try:
        found = await box.stat(path)
    except FileNotFoundError:
        await _run(box, "mkdir", "-p", "--", path.rpartition("/")[0])
        await _run(box, "ln", "-s", "--", target, path)
        return
    if found.kind != "symlink" or found.target != target:
        raise _Left("something stands there already")


async def _run(box: Sandbox, *argv: str) -> None:
    done = await box.run(Command(argv=argv, cwd=WORKSPACE, timeout_s=30, output_bytes=1000))
    if done.exit_code:
        said = done.stderr.decode(errors="replace").strip() or f"exit code {done.exit_code}"
        raise _Left(f"{argv[0]}: {said}")


async def _holds(box: Sandbox, path: str) -> str:
    return sha256(await box.read_file(path)).hexdigest()


async def _held(packs: Packs, node: Node) -> str:
    """The same of a file in a checkpoint, which stands there under a digest of another kind."""
    return await asyncio.to_thread(lambda: _hashed(packs.chunks(node.digest)))


def _hashed(parts: Iterable[bytes]) -> str:
    hasher = sha256()
    for part in parts:
        hasher.update(part)
    return hasher.hexdigest()


class _Beneath:
    """What lies beneath an overlay: a file that a child saw there stands in no checkpoint of its own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def digest(self, path: str) -> str:
        known = manifest.load(self._directory)
        if known.mode != "overlay" or path not in known.entries:
            return ""
        try:
            with beneath.root(known.source) as top, beneath.parent_of(top, path) as (parent, name):
                descriptor, _ = beneath.open_regular(parent, name)
        except (OSError, beneath.LinkOnTheWay):
            return ""
        with open(descriptor, "rb") as file:
            return _hashed(iter(partial(file.read, 1 << 20), b""))
