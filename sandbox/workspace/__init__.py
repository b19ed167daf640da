"""The workspace (a session's private copy of a directory), from copy in to apply or discard.

    prepare      empty storage with an exact limit, or one that is watched
    copy_in      the user's directory, less its credentials; a manifest of it
    lay_over     or the same without copying: the directory beneath, a private layer over it
    …            the sandbox runs with `storage.path` at /workspace
    changes      what came of it, in sections: ordinary, executes on the host, git, blocked
    diff_text    the same as a unified diff
    apply        into the user's directory, path by path
    discard      and it is gone

All of it blocks: call it by `asyncio.to_thread`.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from sandbox.workspace import manifest, quota
from sandbox.workspace.accept import ApplyReport, apply
from sandbox.workspace.compare import changes
from sandbox.workspace.copyin import CopyReport, copy_in
from sandbox.workspace.difftext import diff_text
from sandbox.workspace.overlay import Under, lay_over
from sandbox.workspace.quota import (
    Storage,
    exact_unavailable,
    mounted_sessions,
    opened,
    prepare,
    release,
    storage_of,
)
from sandbox.workspace.review import Change, Review
from sandbox.workspace.watchdog import Watchdog

__all__ = [
    "ApplyReport",
    "Change",
    "CopyReport",
    "Review",
    "Storage",
    "Under",
    "Watchdog",
    "apply",
    "changes",
    "copy_in",
    "diff_text",
    "discard",
    "exact_unavailable",
    "lay_over",
    "mounted_sessions",
    "opened",
    "prepare",
    "release",
    "storage_of",
]


def discard(session_dir: Path) -> bool:
    """Remove the copy and what was known of it, whatever the guest left there; whether there was anything.

    SandboxRefused while something still holds the copy open.
    """
    found = manifest.exists(session_dir)
    with suppress(FileNotFoundError):
        quota.remove(session_dir)
    manifest.forget(session_dir)
    return found
