"""`usermode diff` over real workspaces, changed as a guest would; no engine takes part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from review_double import left_copy

from harness.commands.changes import LISTED, ApplyOptions, apply, diff
from harness.commands.folding import FOLDED
from harness.errors import UsageError
from sandbox import workspace
from sandbox.workspace import compare

Write = Callable[..., None]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "a.txt").write_text("one\n")
    return tmp_path / "project"


@pytest.fixture
def session(tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The directory of a session that has ended and left a copy of `project`."""
    monkeypatch.setenv("USERMODE_HOME", str(tmp_path / "home"))
    directory = left_copy(tmp_path / "home", project)
    yield directory
    workspace.discard(directory)


@pytest.fixture
def write(session: Path) -> Write:
    def files(*paths: str) -> None:
        for path in paths:
            target = workspace.storage_of(session).path / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(f"text of {path}\n")

    return files


PACKAGES = ".venv/lib/python3.11/site-packages"


def test_many_files_that_run_later_are_one_row_and_the_odd_one_still_shows(
    session: Path, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write(*(f"{PACKAGES}/p{number}/m{n}.py" for number in range(30) for n in range(20)))
    write("Makefile", f"{PACKAGES}/p1/setup.py", "src/conftest.py", "b.txt")
    diff(session.name, None)
    shown = capsys.readouterr().out
    assert ": 603\n" in shown
    rows = [line for line in shown.splitlines() if line.startswith("   added")]
    assert [row.split()[1] for row in rows] == [
        "b.txt", f"{PACKAGES}/", f"{PACKAGES}/p1/setup.py", "Makefile", "src/conftest.py",
    ]  # fmt: skip
    assert "600 files: run by Python on its own" in shown
    assert "+text of Makefile" in shown
    assert "/m3.py" not in shown


def test_a_directory_that_is_named_is_not_folded(
    session: Path, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write(*(f"{PACKAGES}/p/m{n}.py" for n in range(LISTED)))
    diff(session.name, [".venv"])
    shown = capsys.readouterr().out
    assert shown.count(f"   added  {PACKAGES}/p/m") == LISTED
    assert f"+text of {PACKAGES}/p/m3.py" in shown


def test_a_few_files_that_run_later_are_rows_of_their_own(
    session: Path, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write(*(f".vscode/f{n}.json" for n in range(FOLDED)))
    diff(session.name, None)
    assert capsys.readouterr().out.count("   added  .vscode/f") == FOLDED


def test_a_fold_tells_of_conflicts(
    session: Path, project: Path, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write(*(f"node_modules/f{n}.js" for n in range(FOLDED + 1)))
    (project / "node_modules").mkdir()
    (project / "node_modules" / "f3.js").write_text("mine\n")
    diff(session.name, None)
    assert "21 files: scripts or settings of a package manager; CONFLICTS: 1" in capsys.readouterr().out


def test_the_copy_is_compared_once(
    session: Path, write: Write, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write("a.txt", "Makefile")
    scans: list[int] = []
    once = compare.compare

    def counted(*given: object) -> object:
        scans.append(1)
        return once(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(compare, "compare", counted)
    diff(session.name, None)
    shown = capsys.readouterr().out
    assert "+text of a.txt" in shown
    assert "+text of Makefile" in shown
    assert len(scans) == 1


def test_a_session_without_a_workspace_is_told_in_words(session: Path) -> None:
    bare = session.with_name(f"{session.name[:-6]}ffffff")
    bare.mkdir(mode=0o700)
    with pytest.raises(UsageError, match="it had no workspace, or they were dropped"):
        diff(bare.name, None)
    with pytest.raises(UsageError, match="it had no workspace, or they were dropped"):
        apply(bare.name, None, ApplyOptions())
    workspace.discard(session)
    with pytest.raises(UsageError, match="it had no workspace, or they were dropped"):
        diff(session.name, None)


def test_a_directory_that_is_gone_is_told_by_its_name(session: Path, project: Path) -> None:
    project.rename(project.with_name("elsewhere"))
    with pytest.raises(UsageError, match=r"cannot be compared: .*/project is no longer there"):
        diff(session.name, None)
