"""A machine played by stand-ins for the commands that a script calls; what was called is in its log."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable
from pathlib import Path


class StandIns:
    """One directory with a PATH: `real` commands that do no harm, and those that say they were called."""

    def __init__(self, root: Path, real: Iterable[str]) -> None:
        self.root = root
        self.bin = root / "bin"
        self.bin.mkdir()
        self.log = root / "log"
        self.log.touch()
        for name in real:
            found = shutil.which(name)
            assert found is not None, name
            (self.bin / name).symlink_to(found)
        self.command("python3", f'exec {sys.executable} "$@"')

    def command(self, name: str, body: str = "") -> None:
        path = self.bin / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >>"{self.log}"\n{body}\n')
        path.chmod(0o755)
