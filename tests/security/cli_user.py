"""Someone who uses the command line, with a project and a home for sessions of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from in_process import usermode_here

from harness.events import CallOutcome
from harness.journal.reading import read
from sandbox.cache import cache_dir

ROOT = Path(__file__).parents[2]


class CliUser:
    def __init__(self, where: Path) -> None:
        self.project = where / "project"
        self.project.mkdir()
        self.script = where / "script.jsonl"
        self.home = where / "home"
        self.home.mkdir(mode=0o700)
        # init is found where it was made, so that only the sessions are this user's own.
        cache_dir().mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.home / "cache").symlink_to(cache_dir())
        kept = {name: value for name, value in os.environ.items() if not name.startswith("USERMODE_")}
        self.environ = {**kept, "PYTHONPATH": str(ROOT), "USERMODE_HOME": str(self.home)}

    def argv(self, *argv: str) -> list[str]:
        return [sys.executable, "-m", "harness", *argv]

    def usermode(self, *argv: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.argv(*argv),
            cwd=self.project,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def looks(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """As `usermode`, without a process of its own: at what a real one left."""
        return usermode_here(*argv, cwd=self.project, environ=self.environ)

    def session(
        self, *calls: dict[str, Any], policy: str = "strict", workspace_mode: str | None = None
    ) -> list[CallOutcome]:
        """Run these bash calls one after the other in a new session; returns their outcomes."""
        replies = [{"calls": [{"name": "bash", "arguments": call}]} for call in calls]
        lines = [json.dumps(reply) + "\n" for reply in [*replies, {"text": "Done."}]]
        self.script.write_text("".join(lines))
        mode = ["--workspace-mode", workspace_mode] if workspace_mode else []
        done = self.usermode("run", "try it", "--policy", policy, "--model", f"scripted:{self.script}", *mode)
        assert done.returncode == 0, done.stdout + done.stderr
        outcomes = [record.entry for record in read(self.journal.parent)]
        return [entry for entry in outcomes if isinstance(entry, CallOutcome)]

    @property
    def journal(self) -> Path:
        """Of the last session."""
        return max(self.home.glob("sessions/*/journal.jsonl"), key=lambda path: path.stat().st_mtime_ns)
