"""A session whose journal was damaged is not gone on with, and what it made is still there to be taken."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from in_process import usermode_here
from left import commands, left, without_container

from harness.journal.record import FILE

pytestmark = pytest.mark.docker


async def test_a_damaged_journal_is_named_by_its_line_and_the_work_is_still_there(tmp_path: Path) -> None:
    (tmp_path / "workspace").mkdir()
    script = commands("echo made > made", "sleep 20")
    directory = await left(
        tmp_path, script, "-w", str(tmp_path / "workspace"), after="call_outcome", after_s=0.5
    )
    await without_container(directory)
    journal = directory / FILE
    good = journal.read_bytes()
    environment = {
        **os.environ, "USERMODE_HOME": str(tmp_path / "home"), "PYTHONPATH": str(Path(__file__).parents[2])
    }  # fmt: skip

    def usermode(*argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "harness", *argv],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip

    def looks(*argv: str) -> subprocess.CompletedProcess[str]:
        return usermode_here(*argv, cwd=tmp_path, environ=environment)

    lines = good.splitlines(keepends=True)
    damaged = b"".join([*lines[:3], lines[4], lines[3], *lines[5:]])
    journal.write_bytes(damaged)
    verified, resumed = looks("verify", "last"), usermode("resume", "last")
    assert (verified.returncode, resumed.returncode) == (7, 7)
    assert "line 4: " in verified.stdout
    assert "line 4: " in resumed.stderr
    assert resumed.stderr.count("\n") == 1
    # Not a byte was written after a line that nobody can trust.
    assert journal.read_bytes() == damaged
    # The ways forward that the refusal names.
    numbered = [line.split()[0] for line in looks("log", "last").stdout.splitlines() if line[:5].strip()]
    assert numbered == ["1", "2", "3"]
    assert "made" in looks("diff", "last").stdout
    assert looks("apply", "last").returncode == 0
    assert (tmp_path / "workspace" / "made").read_text() == "made\n"
    # And whole again, it goes on.
    journal.write_bytes(good)
    assert usermode("resume", "last", "--json").returncode == 0
