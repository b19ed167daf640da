"""The modes of a workspace: a copy, an overlay over the user's directory, or (bind) that directory itself.

Each is had exactly as configured or refused with a reason; none falls back to another.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from policies import Policy
from policies.schema import Limits
from sandbox.errors import SandboxRefused, WorkspaceLost
from sandbox.workspace import manifest
from sandbox.workspace.copyin import CopyReport
from sandbox.workspace.overlay import Under, lay_again, lay_over
from sandbox.workspace.pinned import pinned
from sandbox.workspace.quota import Storage, mount_again, prepare, prepare_bound
from sandbox.workspace.watchdog import usage


@dataclass(frozen=True)
class Provided:
    storage: Storage
    report: CopyReport | None
    """What the session sees; None of a copy, which is filled later."""


def provide(
    policy: Policy, source: Path | None, session_dir: Path, uid: int, gid: int, own: Sequence[Path]
) -> Provided:
    """The storage that a session's /workspace is mounted from. `own`: as `pinned` has it.

    SandboxRefused when the mode cannot be had; what was mounted until then is the session's to release.
    """
    rules = policy.workspace
    if rules.mode == "copy":
        return Provided(prepare(session_dir, policy.limits, uid=uid, gid=gid), None)
    if source is None:
        raise SandboxRefused(f"workspace mode {rules.mode} needs the directory from the start; use mode copy")
    if rules.mode == "overlay":
        storage = prepare(session_dir, policy.limits, uid=uid, gid=gid)
        report = lay_over(Under(source, uid, gid, rules.exclude, rules.include, own), session_dir)
        return Provided(storage, report)
    with pinned(source, [session_dir, *own]) as (_, path):
        _weigh(path, policy.limits)
        return Provided(prepare_bound(session_dir, path), CopyReport(0, 0, (), (), "bind"))


def provide_again(
    policy: Policy, source: Path | None, session_dir: Path, uid: int, gid: int, own: Sequence[Path]
) -> Provided:
    """The storage that an earlier container of the session had, with what is in it.

    WorkspaceLost when there is none any more, SandboxRefused when it is not to be had in the same mode.
    """
    mode = policy.workspace.mode
    try:
        storage = mount_again(session_dir)
    except FileNotFoundError:
        raise WorkspaceLost(manifest.why_gone(session_dir)) from None
    if (storage.kind == "your directory") != (mode == "bind"):
        raise SandboxRefused(f"the session's workspace is no longer what mode {mode} made it")
    if mode == "overlay":
        if source is None:
            raise SandboxRefused("workspace mode overlay needs the directory that lies beneath")
        rules = policy.workspace
        lay_again(Under(source, uid, gid, rules.exclude, rules.include, own), session_dir)
    elif source is not None and mode == "bind":
        with pinned(source, [session_dir, *own]) as (_, path):
            if path != storage.path:
                raise SandboxRefused(f"the session works on {storage.path}, not on {path}")
    return Provided(storage, None)


def owner_of(source: Path, *, root: bool) -> tuple[int, int]:
    """The user and group that a session runs as which works on this directory itself, or over it.

    An overlay or a bind gives no file another owner, so the session has to be the owner. SandboxRefused where
    that is root and `root` was not allowed, or where the caller may not act for the owner.
    """
    try:
        found = source.stat(follow_symlinks=False)
    except OSError as error:
        raise SandboxRefused(f"the workspace {source} cannot be looked at: {error.strerror}") from error
    if (found.st_uid == 0) != root:
        whose = "root" if found.st_uid == 0 else f"user {found.st_uid}"
        runs = "as root" if root else "without root"
        raise SandboxRefused(
            f"{source} belongs to {whose} and the session runs {runs}: "
            "its files would not be the session's; use workspace mode copy"
        )
    if os.geteuid() not in (0, found.st_uid):
        raise SandboxRefused(f"{source} belongs to user {found.st_uid}, not to you; use workspace mode copy")
    # Never root's group, whose files an image may well hold.
    return found.st_uid, found.st_gid or found.st_uid


def _weigh(source: Path, limits: Limits) -> None:
    held = usage(source, limits.workspace_inodes + 1)
    if held.bytes > limits.workspace_mb << 20 or held.inodes > limits.workspace_inodes or not held.measured:
        raise SandboxRefused(
            f"{source} holds at least {held.bytes >> 20:,} MB in {held.inodes:,} files, the policy allows "
            f"{limits.workspace_mb:,} MB in {limits.workspace_inodes:,} files; raise [limits] workspace_mb "
            "or workspace_inodes"
        )
