"""A session that has ended and left its copy of a project, for whoever reviews it; no engine."""

from __future__ import annotations

import os
from pathlib import Path

from harness.store import Store
from policies.schema import Limits
from sandbox import workspace


def left_copy(home: Path, project: Path) -> Path:
    """The session's directory; `workspace.discard` it at the end."""
    directory = Store(home).new_session()
    uid, gid = os.geteuid(), os.getegid()
    limits = Limits(workspace_mb=64, workspace_inodes=5000)
    workspace.prepare(directory, limits, uid=uid, gid=gid, kind="watched directory")
    workspace.copy_in(project, directory, limits=limits, uid=uid, gid=gid)
    return directory
