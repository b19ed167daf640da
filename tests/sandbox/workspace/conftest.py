"""A user's directory, and sessions over it: what the guest does is done straight in the copy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from workspace_session import GID, UID, Session, fill

from policies.schema import Limits
from sandbox.workspace import discard
from sandbox.workspace.copyin import copy_in
from sandbox.workspace.quota import Kind, prepare


@pytest.fixture
def source(tmp_path: Path) -> Path:
    top = tmp_path / "project"
    top.mkdir()
    fill(
        top,
        {
            "README": "read me\n",
            "src/app.py": "print('hello')\n",
            "src/util/text.py": "x = 1\n",
            "data.bin": b"\0\1\2",
        },
    )
    (top / "run").write_text("#!/bin/sh\necho hi\n")
    (top / "run").chmod(0o755)
    (top / "link").symlink_to("README")
    (top / "empty").mkdir()
    return top


@pytest.fixture
def begin(tmp_path: Path, source: Path) -> Iterator[Callable[..., Session]]:
    """Begin a session over `source`: prepared, copied in, discarded at the end."""
    made: list[Path] = []

    def start(
        *, limits: Limits | None = None, kind: Kind = "watched directory", exclude: tuple[str, ...] = (),
        include: tuple[str, ...] = (),
    ) -> Session:  # fmt: skip
        session_dir = tmp_path / "store" / f"session-{len(made)}"
        session_dir.mkdir(parents=True, mode=0o700)
        made.append(session_dir)
        bounds = limits or Limits(workspace_mb=64, workspace_inodes=5000)
        storage = prepare(session_dir, bounds, uid=UID, gid=GID, kind=kind)
        report = copy_in(
            source, session_dir, limits=bounds, exclude=exclude, include=include, uid=UID, gid=GID
        )
        return Session(session_dir, storage, report)

    yield start
    for session_dir in made:
        discard(session_dir)


@pytest.fixture
def session(begin: Callable[..., Session]) -> Session:
    return begin()
