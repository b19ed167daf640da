"""The manifest: what was copied in, so that a later look can tell what changed on either side.

One file beside the workspace, never inside it: a JSON header line, the paths joined by NUL bytes (any name a
file system allows survives), the targets of symlinks likewise, then fixed-size records. 20,000 entries load
in well under 50 ms. What `apply` took over is appended to a log of its own and laid over the manifest when it
loads.
"""

from __future__ import annotations

import errno
import json
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from sandbox.errors import SandboxRefused
from sandbox.workspace import beneath

FILE, DIRECTORY, SYMLINK = 0, 1, 2
REWRITTEN = 1
"""Flag: credentials were taken out of the copy, so its content is not the source's."""

_VERSION = 1
_RECORD = struct.Struct("<4Iq6q")
_NAME = "manifest"
_APPLIED = "applied.jsonl"


class Entry(NamedTuple):
    """One path of the copy. Sizes are equal on both sides unless `flags` says rewritten.

    Kind, mode, size, times and inode number tell that a file was left alone: nothing inside the container can
    set a ctime back.
    """

    kind: int
    mode: int
    source_mode: int
    flags: int
    size: int
    source_mtime_ns: int
    source_ctime_ns: int
    source_ino: int
    copy_mtime_ns: int
    copy_ctime_ns: int
    copy_ino: int

    def source(self) -> tuple[int, int, int]:
        return self.source_mtime_ns, self.source_ctime_ns, self.source_ino

    def copy(self) -> tuple[int, int, int]:
        return self.copy_mtime_ns, self.copy_ctime_ns, self.copy_ino

    def copied_again(self, made: os.stat_result) -> Entry:
        """The same over a copy that was made anew."""
        return self._replace(
            copy_mtime_ns=beneath.modified_ns(made), copy_ctime_ns=made.st_ctime_ns, copy_ino=made.st_ino
        )


@dataclass(frozen=True)
class Manifest:
    source: Path
    uid: int
    gid: int
    entries: dict[str, Entry]
    """By path relative to the root, `/` between names, undecodable bytes as surrogates."""
    targets: dict[str, str]
    """Of the symlinks."""
    excluded: list[tuple[str, str]]
    """Paths that were left out, with the reason."""
    mode: Literal["copy", "overlay"] = "copy"
    """Whether the session's tree is all of it, or only what was written over the user's directory."""


def save(session_dir: Path, manifest: Manifest) -> None:
    """Write it durably: without it nothing can be applied."""
    paths = b"\0".join(os.fsencode(path) for path in manifest.entries)
    targets = b"\0".join(
        os.fsencode(manifest.targets[path])
        for path, entry in manifest.entries.items()
        if entry.kind == SYMLINK
    )
    header = {
        "version": _VERSION,
        "source": str(manifest.source),
        "uid": manifest.uid,
        "gid": manifest.gid,
        "count": len(manifest.entries),
        "paths_bytes": len(paths),
        "targets_bytes": len(targets),
        "excluded": manifest.excluded,
        "mode": manifest.mode,
    }
    records = b"".join(_RECORD.pack(*entry) for entry in manifest.entries.values())
    target = session_dir / _NAME
    temporary = target.with_name(f"{_NAME}.new")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(json.dumps(header).encode() + b"\n" + paths + targets + records)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(target)
    _sync_directory(session_dir)


def load(session_dir: Path, *, applied: bool = True) -> Manifest:
    """The manifest, with all that was `applied` since laid over it. FileNotFoundError if nothing went in,
    SandboxRefused where it is damaged.
    """
    try:
        return _load(session_dir, applied=applied)
    except (ValueError, KeyError, TypeError) as error:
        raise SandboxRefused(
            f"nothing can be reviewed: {session_dir / _NAME} or {_APPLIED} beside it is not what was written "
            f"there ({error})"
        ) from error


def _load(session_dir: Path, *, applied: bool) -> Manifest:
    line, _, body = (session_dir / _NAME).read_bytes().partition(b"\n")
    header = json.loads(line)
    if header["version"] != _VERSION:
        raise ValueError("it was written by another version of usermode")
    count, split = header["count"], header["paths_bytes"]
    end = split + header["targets_bytes"]
    if len(body) != end + count * _RECORD.size:
        raise ValueError("it is incomplete")
    paths = [os.fsdecode(path) for path in body[:split].split(b"\0")] if count else []
    entries = dict(zip(paths, map(Entry._make, _RECORD.iter_unpack(body[end:])), strict=True))
    links = [path for path, entry in entries.items() if entry.kind == SYMLINK]
    targets = [os.fsdecode(target) for target in body[split:end].split(b"\0")] if links else []
    manifest = Manifest(
        source=Path(header["source"]),
        uid=header["uid"],
        gid=header["gid"],
        entries=entries,
        targets=dict(zip(links, targets, strict=True)),
        excluded=[(path, reason) for path, reason in header["excluded"]],
        mode=header.get("mode", "copy"),
    )
    for path, entry in _applied(session_dir) if applied else ():
        if entry is None:
            entries.pop(path, None)
        else:
            entries[path] = entry
    return manifest


def share(source: Path, session_dir: Path) -> None:
    """Give another session this one's manifest, as it was before anything was applied.

    It is replaced and never altered, so the names are linked. FileNotFoundError if nothing went in.
    """
    os.link(source / _NAME, session_dir / _NAME, follow_symlinks=False)


def exists(session_dir: Path) -> bool:
    """Whether anything went in: a sandbox that was refused before that has none."""
    return (session_dir / _NAME).exists()


def why_gone(session_dir: Path) -> str:
    """What to say of a session whose copy is not there."""
    if not exists(session_dir):
        return "the session's workspace is gone (discarded, or never copied whole); start another session"
    return (
        f"the workspace of session {session_dir.name} is gone (a child's goes at its end, and a disk that is "
        f"full at once may take one); what it last kept can be gone on with: usermode fork {session_dir.name}"
    )


def maybe_lost(session_dir: Path) -> str:
    """What to say of one whose image is damaged."""
    return (
        "the disk was full or failed while this workspace was written: files may be missing or cut short; "
        f"to go back to what was kept: usermode rewind {session_dir.name} --to N (see `usermode log`)"
    )


def forget(session_dir: Path) -> None:
    """Remove the manifest and the log of what was applied. Idempotent."""
    for name in (_NAME, _APPLIED):
        (session_dir / name).unlink(missing_ok=True)


class AppliedLog:
    """What `apply` has taken over, one line a path, written before the next path is touched."""

    def __init__(self, session_dir: Path) -> None:
        self._path = session_dir / _APPLIED

    def __enter__(self) -> AppliedLog:
        _cut_torn_tail(self._path)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags, 0o600)
        return self

    def record(self, path: str, entry: Entry | None) -> None:
        """The path now has this state on both sides; None when it is gone from both."""
        line = json.dumps([path, entry]).encode() + b"\n"
        before = os.fstat(self._descriptor).st_size
        if os.write(self._descriptor, line) < len(line):
            # A full disk takes a part; the next line must not go on from there.
            os.ftruncate(self._descriptor, before)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def __exit__(self, *exc_info: object) -> None:
        os.fsync(self._descriptor)
        os.close(self._descriptor)


def _applied(session_dir: Path) -> Iterator[tuple[str, Entry | None]]:
    try:
        lines = (session_dir / _APPLIED).read_bytes().split(b"\n")
    except FileNotFoundError:
        return
    for line in lines[:-1]:  # what follows the last newline is a torn write, or nothing
        path, values = _parsed(line)
        yield path, None if values is None else Entry._make(values)


def applied_paths(session_dir: Path) -> set[str]:
    """Paths whose base is no longer what was copied in."""
    return {path for path, _ in _applied(session_dir)}


def _parsed(line: bytes) -> tuple[str, list[int] | None]:
    path, values = json.loads(line)
    return path, values


def _cut_torn_tail(path: Path) -> None:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return
    whole = content.rfind(b"\n") + 1
    if whole != len(content):
        os.truncate(path, whole)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
