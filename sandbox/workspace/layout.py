"""Where things lie in a session's directory, as far as the workspace goes.

`workspace/` is the top of the session's volume and never the guest's: the guest gets `tree` alone. In overlay
mode `upper` beside it takes what the session writes, `work` is the kernel's, and `tree` is where both appear
as one with the user's directory beneath.
"""

from __future__ import annotations

from pathlib import Path

MOUNTPOINT = "workspace"
IMAGE = "workspace.img"
LOCK = "workspace.lock"
BOUND = "workspace.bound"
"""Holds the path of the user's own directory where the session works on that itself."""
PROMISED = "workspace.promised"
"""Says of what the workspace is to be made. While it lies there, what stands in it may be half of that."""
TREE = "tree"


def tree_of(session_dir: Path) -> Path:
    """The directory that is mounted at /workspace."""
    return session_dir / MOUNTPOINT / TREE


def upper_of(session_dir: Path) -> Path:
    """What an overlay session wrote."""
    return session_dir / MOUNTPOINT / "upper"


def work_of(session_dir: Path) -> Path:
    """The kernel's own, of an overlay."""
    return session_dir / MOUNTPOINT / "work"
