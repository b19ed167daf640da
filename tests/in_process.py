"""The command line in the tests' own process: for what stands beside the command under test.

An interpreter of its own costs half a second and more, a hundred times over. What a session itself does, or a
signal, a terminal or a second process, is tried with real ones.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from unittest import mock

from typer.testing import CliRunner

from harness.cli import app


def usermode_here(*argv: str, cwd: Path, environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """As `subprocess.run` of it, captured; what it raises is raised here."""
    with mock.patch.dict(os.environ, environ, clear=True), contextlib.chdir(cwd):
        done = CliRunner().invoke(app, argv, prog_name="usermode")
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return subprocess.CompletedProcess(argv, done.exit_code, done.stdout, done.stderr)
