"""`sudo` for a host path: a copy of what the policy names, taken before the question, given after it.

The bytes are read once, before anybody is asked, and those very bytes go in after a yes: what was shown is
what is given. Nothing on the way is followed: the path is resolved first, must lie in `sudo.host_paths`, and
is then opened one directory at a time. Files that hold credentials never go in, whatever the policy names.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import posixpath
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.approvals.petition import Petition
from harness.syscalls.base import Context, Outcome, Refused, resolve
from harness.syscalls.consent import consent
from harness.syscalls.faults import told
from harness.words import counted
from policies.patterns import normal_path, path_matches
from sandbox.workspace import beneath, secretfiles

MAX_BYTES = 64 << 20
MAX_FILES = 2000
MAX_LOOKED_AT = 20_000
"""Names met on the way, those that are left out included."""
_NEVER = ("/proc", "/sys", "/dev", "/run", "/var/run")
_PLACES = ("/workspace", "/tmp")


@dataclass
class Taken:
    """A copy in memory of what was found at a path."""

    path: str
    """With every link resolved."""
    directory: bool
    files: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    """Content and mode by relative path; of a single file by the empty name."""
    left_out: list[str] = field(default_factory=list)
    """`path: reason`."""
    bytes: int = 0
    looked_at: int = 0

    @property
    def digest(self) -> str:
        whole = hashlib.sha256()
        for name, (content, mode) in sorted(self.files.items()):
            whole.update(f"{len(name)} {name} {mode:o} {len(content)} ".encode() + content)
        return whole.hexdigest()


async def host_path(context: Context, asked: str, to: str | None, reason: str) -> Outcome:
    place = resolve(to or default_place(asked), context.cwd)
    if not any(place.startswith(top + "/") for top in _PLACES):
        raise Refused("bad_arguments", f"to: a place below {' or '.join(_PLACES)}, not {place}")
    taken = await asyncio.to_thread(take, asked, context.policy.sudo.host_paths, context.keep_out)
    what = "a file" if not taken.directory else f"a directory, {counted(len(taken.files), 'file')}"
    left_out = [("left out", line) for line in taken.left_out[:20]]
    if len(taken.left_out) > 20:
        left_out.append(("left out", f"and {len(taken.left_out) - 20} more"))
    bound = {"path": taken.path, "digest": taken.digest, "to": place}
    petition = Petition(
        kind="host_path",
        subject=taken.path,
        facts=(
            ("host path", taken.path),
            *([("asked as", asked)] if asked != taken.path else []),
            ("is", f"{what}, {taken.bytes:,} bytes"),
            ("digest", f"sha256:{taken.digest}"),
            *left_out,
            ("copied to", place),
        ),
        said=reason,
        bound=bound,
    )
    await consent(context, petition)
    for name, (content, mode) in taken.files.items():
        path = f"{place}/{name}" if name else place
        with told(path):
            await context.sandbox.write_file(path, content, mode=mode, expect="", parents=True)
    note = f"; {counted(len(taken.left_out), 'path')} left out" if taken.left_out else ""
    return Outcome(f"granted: copied to {place}: {counted(len(taken.files), 'file')}{note}")


def default_place(asked: str) -> str:
    return "/workspace/" + (posixpath.basename(asked.rstrip("/")) or "host")


def take(asked: str, allowed: Sequence[str], keep_out: Sequence[Path]) -> Taken:
    """Read a file or directory of this machine. Raises Refused; a path that may not be asked for is refused
    in the same words whether it exists or not.
    """
    no = Refused(
        "denied",
        f"denied: {asked[:200]} is not among the host paths that can be asked for (sudo.host_paths). "
        "Nobody was asked.",
    )
    normal = normal_path(asked) if asked.startswith("/") else None
    if normal is None or not _listed(normal, allowed):
        raise no
    try:
        path = os.path.realpath(normal, strict=True)
        if not _listed(path, allowed) or _off_limits(path, keep_out):
            raise no
        if reason := _credential(path):
            raise Refused("denied", f"denied: {path}: a {reason} is never given. Nobody was asked.")
        with beneath.root("/") as top, beneath.parent_of(top, path[1:]) as (parent, name):
            found = beneath.look(parent, name)
            if found is None:
                raise FileNotFoundError
            taken = Taken(path, stat.S_ISDIR(found.st_mode))
            if taken.directory:
                _walk(taken, parent, name, "", [place.resolve() for place in keep_out], 0)
            elif reason := _take_file(taken, parent, name, ""):
                raise Refused("denied", f"denied: {path}: {reason}. Nobody was asked.")
    except FileNotFoundError:
        raise Refused("not_found", f"{normal}: there is no such file on the user's machine") from None
    except (OSError, ValueError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else str(exc)
        raise Refused("failed", f"{normal}: it cannot be read on the user's machine: {why}") from None
    return taken


def _listed(path: str, allowed: Sequence[str]) -> bool:
    return any(path_matches(pattern, path) for pattern in allowed)


def _off_limits(path: str, keep_out: Sequence[Path]) -> bool:
    places = (*_NEVER, *(str(place.resolve()) for place in keep_out))
    return path == "/" or any(path == place or path.startswith(place + "/") for place in places)


def _credential(path: str) -> str | None:
    """Why this path is never given, by its name or that of a directory above it."""
    parts = path[1:].split("/")
    above = ("/".join(parts[:depth]) for depth in range(1, len(parts) + 1))
    return secretfiles.reason_for_file(path[1:]) or next(
        filter(None, map(secretfiles.reason_for_directory, above)), None
    )


def _walk(taken: Taken, parent: int, name: str, prefix: str, keep_out: Sequence[Path], depth: int) -> None:
    here = beneath.enter(parent, name)
    try:
        full = f"{taken.path}/{prefix}".rstrip("/")
        if depth > beneath.MAX_DEPTH or _off_limits(full, keep_out):
            taken.left_out.append(f"{prefix or name}: never given")
            return
        with os.scandir(here) as entries:
            children = sorted(entry.name for entry in entries)
        taken.looked_at += len(children)
        if taken.looked_at > MAX_LOOKED_AT:
            raise Refused("too_large", f"more than {MAX_LOOKED_AT:,} names in it; ask for a part of it")
        for child in children:
            path = prefix + child
            found = beneath.look(here, child)
            if found is None:
                continue
            reason = None
            if stat.S_ISDIR(found.st_mode):
                reason = secretfiles.reason_for_directory(f"{taken.path}/{path}"[1:])
                if reason is None:
                    _walk(taken, here, child, path + "/", keep_out, depth + 1)
            else:
                reason = _take_file(taken, here, child, path)
            if reason is not None:
                taken.left_out.append(f"{path}: {reason}")
    finally:
        os.close(here)


def _take_file(taken: Taken, parent: int, name: str, path: str) -> str | None:
    """Take one file in, or say why it stays out. Refused past the bounds."""
    full = f"{taken.path}/{path}".rstrip("/")[1:]
    if reason := secretfiles.reason_for_file(full):
        return reason
    try:
        path.encode()
        content, found = beneath.read_regular(parent, name, MAX_BYTES - taken.bytes)
    except beneath.TooLarge:
        raise Refused("too_large", f"more than {MAX_BYTES >> 20} MiB in all; ask for a part of it") from None
    except UnicodeEncodeError:
        return "its name is no UTF-8"
    except OSError as exc:
        return exc.strerror or "cannot be read"
    if reason := secretfiles.reason_for_content(full, content):
        return reason
    if secretfiles.is_git_config(full):
        content = secretfiles.without_credentials(content)
    if len(taken.files) >= MAX_FILES:
        raise Refused("too_large", f"more than {MAX_FILES:,} files; ask for a part of them")
    taken.files[path] = (content, 0o755 if found.st_mode & 0o100 else 0o644)
    taken.bytes += len(content)
    return None
