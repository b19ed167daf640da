"""What the workspace tests share: a session, and files made from a table."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sandbox.workspace.copyin import CopyReport
from sandbox.workspace.quota import Storage

AS_ROOT = os.geteuid() == 0
UID = 1000 if AS_ROOT else os.geteuid()
GID = 1000 if AS_ROOT else os.getegid()


@dataclass(frozen=True)
class Session:
    dir: Path
    storage: Storage
    report: CopyReport

    @property
    def copy(self) -> Path:
        return self.storage.path


def fill(top: Path, files: Mapping[str, str | bytes]) -> None:
    for path, content in files.items():
        target = top / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)
