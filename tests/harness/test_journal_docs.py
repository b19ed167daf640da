"""docs/journal.md tells a stranger how to check a journal; what it tells must work."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.events import Notice
from harness.journal.record import FILE
from harness.journal.writer import Journal

PAGE = Path(__file__).parents[2] / "docs" / "journal.md"


async def journal_with(directory: Path, count: int) -> Path:
    journal = Journal.create(directory)
    for number in range(count):
        await journal.append(Notice(level="info", code="x", text=f'{number} ,"hash":"é\u2028'))
    journal.close()
    return directory / FILE


def checked(path: Path) -> subprocess.CompletedProcess[str]:
    (program,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return subprocess.run([sys.executable, "-I", "-c", program, str(path)], capture_output=True, text=True)


async def test_the_pages_program_accepts_a_whole_journal(tmp_path):
    path = await journal_with(tmp_path / "s", 3)
    done = checked(path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("3 lines, head ")


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda lines: [lines[0], lines[1].replace(b"1 ", b"7 "), lines[2]], "line 2 was changed"),
        (lambda lines: [lines[0], lines[2]], "line 2 is out of place"),
    ],
)
async def test_the_pages_program_refuses_a_damaged_one(tmp_path, damage, complaint):
    path = await journal_with(tmp_path / "s", 3)
    path.write_bytes(b"".join(damage(path.read_bytes().splitlines(keepends=True))))
    done = checked(path)
    assert done.returncode == 1
    assert complaint in done.stderr
