"""`usermode diff --stat`, `--json`, `apply --dry-run` and `--interactive` over real workspaces; no engine."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pytest
from journal_double import first_entry
from review_double import left_copy

from harness.commands.changes import ApplyOptions, apply, diff, discard
from harness.commands.pick import QUESTION
from harness.errors import UsageError
from harness.events import SessionEnded
from harness.journal.writer import Journal
from harness.messages import Usage
from harness.rows import row_of
from sandbox import workspace

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    top = tmp_path / "project"
    top.mkdir()
    for name in ("a.txt", "b.txt", "c.txt", "gone.txt"):
        (top / name).write_text("one\ntwo\n")
    return top


@pytest.fixture
def session(tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A session that has ended and left an altered copy of `project`."""
    monkeypatch.setenv("USERMODE_HOME", str(tmp_path / "home"))
    directory = left_copy(tmp_path / "home", project)
    tree = directory / "workspace" / "tree"
    (tree / "a.txt").write_text("one\n2\nthree\n")
    (tree / "b.txt").write_text("other\n")
    (project / "b.txt").write_text("mine\n")
    (tree / "Makefile").write_text("all:\n\tx\n")
    (tree / "gone.txt").unlink()
    (tree / "run").write_text("#!/bin/sh\n")
    (tree / "run").chmod(0o755)
    (tree / "link").symlink_to("/etc/\x1b[2Jpasswd")
    (tree / "sub").mkdir()
    (tree / "sub" / "new.txt").write_text("x\n")
    (tree / "bin").write_bytes(b"\0\1")
    yield directory
    workspace.discard(directory)


def content(project: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(project)): path.read_bytes() for path in project.rglob("*") if path.is_file()
    }


def test_counts_of_lines_sizes_and_reasons_are_one_row_each(session, capsys):
    assert diff(session.name, None, stat=True) == 0
    shown = capsys.readouterr().out
    rows = {line.split()[1]: line for line in shown.splitlines()}
    assert "+2 -1" in rows["a.txt"]
    assert "CONFLICT" in rows["b.txt"]
    assert "was 8B" in rows["gone.txt"]
    assert "11B" not in rows["bin"]
    assert "+x" in rows["run"]
    assert "\x1b" not in shown
    assert "symlink" in rows["link"]
    assert "runs on this machine later: 2 changes, +3 -0" in shown
    assert "never applied: 1 change, +0 -0" in shown


def test_a_program_reads_one_object_a_line(session, capsys):
    assert diff(session.name, None, json=True) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.isascii() and line.isprintable() for line in lines)
    found = {change["path"]: change for change in map(json.loads, lines)}
    assert set(found) == {"a.txt", "b.txt", "Makefile", "gone.txt", "run", "link", "sub/new.txt", "bin"}
    assert all(change["v"] == 1 and change["kind"] == "change" for change in found.values())
    assert (found["a.txt"]["lines_added"], found["a.txt"]["lines_removed"]) == (2, 1)
    assert found["run"]["mode"] == "0755"
    assert found["link"]["section"] == "blocked"
    assert found["link"]["target"] == "/etc/\x1b[2Jpasswd"
    assert found["bin"]["lines_added"] is None
    assert found["gone.txt"]["mode"] is None
    # Nothing changed there: nothing is said, and that is no error.
    assert diff(session.name, ["c.txt"], json=True) == 0
    assert capsys.readouterr().out == ""


def test_a_dry_run_says_what_would_be_done_and_touches_nothing(session, project, capsys):
    before = content(project)
    assert apply(session.name, None, ApplyOptions(dry_run=True)) == 1
    planned = capsys.readouterr().out
    assert content(project) == before
    assert "nothing written" in planned
    apply(session.name, None, ApplyOptions())
    done = capsys.readouterr().out
    said = [line.split()[-1] for line in planned.splitlines() if line.startswith("would apply")]
    assert said == [line.split()[-1] for line in done.splitlines() if line.startswith("applied")]


def test_asking_needs_a_terminal(session, project):
    before = content(project)
    with pytest.raises(UsageError, match="needs a terminal"):
        apply(session.name, None, ApplyOptions(interactive=True))
    assert content(project) == before


@pytest.fixture
def asked(session: Path, project: Path) -> Iterator[Callable[..., pexpect.spawn[str]]]:
    children: list[pexpect.spawn[str]] = []

    def start(*more: str) -> pexpect.spawn[str]:
        child = pexpect.spawn(
            sys.executable, ["-m", "harness", "apply", session.name, "-i", *more], cwd=str(project),
            timeout=60, env={**os.environ, "PYTHONPATH": str(ROOT)}, encoding="utf-8", dimensions=(50, 200),
        )  # fmt: skip
        children.append(child)
        return child

    yield start
    for child in children:
        child.close(force=True)


def answer_all(child: pexpect.spawn[str], answers: dict[str, str]) -> str:
    """Answer each question by the path it is about; Enter for what has no answer."""
    seen = ""
    while child.expect_exact([QUESTION, pexpect.EOF]) == 0:
        seen += child.before
        # From the line of the change on: the number stands above it.
        row = next(line for line in reversed(child.before.splitlines()) if line.startswith("   "))
        child.sendline(answers.get(row.split()[1], ""))
    return seen + child.before


def test_only_a_typed_yes_takes_a_change_and_it_alone(asked, project):
    before = content(project)
    shown = answer_all(asked(), {"a.txt": "y", "run": "y", "Makefile": "yes please", "sub/new.txt": "Y"})
    after = content(project)
    assert {path for path in after if after[path] != before.get(path)} == {"a.txt", "run", "sub/new.txt"}
    assert after.keys() >= before.keys()
    assert "RUNS ON THIS MACHINE LATER" in shown
    assert "CONFLICT" in shown
    assert "never applied: link" in shown
    assert "\x1b[2J" not in shown


def test_a_conflict_that_was_shown_is_taken_when_it_is_said_so(asked, project):
    answer_all(asked("b.txt"), {"b.txt": "y"})
    assert (project / "b.txt").read_text() == "other\n"
    assert (project / "a.txt").read_text() == "one\ntwo\n"


def test_what_was_typed_ahead_answers_nothing(asked, project):
    before = content(project)
    child = asked()
    child.send("y\ny\ny\ny\ny\ny\ny\ny\n")
    child.expect_exact(QUESTION)
    child.sendline("q")
    child.expect(pexpect.EOF)
    changed = {path for path, data in content(project).items() if data != before.get(path)}
    assert changed == set()


def test_the_text_is_shown_on_demand_and_a_file_that_changed_since_is_left(asked, project):
    child = asked("a.txt")
    child.expect_exact(QUESTION)
    child.sendline("d")
    child.expect_exact("+three")
    child.expect_exact(QUESTION)
    (project / "a.txt").write_text("changed while it was asked about\n")
    child.sendline("y")
    child.expect("changed since it was reviewed")
    child.expect(pexpect.EOF)
    assert (project / "a.txt").read_text() == "changed while it was asked about\n"


def test_an_end_of_input_leaves_the_rest(asked, project):
    before = content(project)
    child = asked()
    child.expect_exact(QUESTION)
    child.sendeof()
    child.expect_exact("nothing was chosen")
    child.expect(pexpect.EOF)
    assert content(project) == before


async def ends(directory: Path, *entries) -> int:
    """The session comes to an end (again); how many changes there are then."""
    found = len(workspace.changes(directory).changes)
    ended = SessionEnded(status="done", exit_code=0, reason="", turns=1, usage=Usage(), changes=found)
    journal = Journal.open(directory) if not entries else Journal.create(directory)
    await journal.append_many([*entries, ended])
    journal.close()
    return found


async def test_the_list_of_sessions_counts_what_is_left_to_review(session, capsys):
    def left() -> int | None:
        return row_of(session).changes

    found = await ends(session, first_entry(session.name))
    assert left() == found > 5
    apply(session.name, None, ApplyOptions(dry_run=True))
    assert left() == found
    apply(session.name, ["a.txt"], ApplyOptions())
    assert left() == found - 1
    apply(session.name, None, ApplyOptions())
    capsys.readouterr()
    diff(session.name, None, json=True)
    listed = capsys.readouterr().out.splitlines()
    assert left() == len(listed) < found - 1
    # Gone on with since: what that end counted is newer.
    (session / "workspace" / "tree" / "more.txt").write_text("x")
    assert await ends(session) == left() == len(listed) + 1
    assert discard(session.name) == 0
    assert left() == 0


async def test_what_is_noted_of_the_review_may_be_damaged_without_harm(session):
    found = await ends(session, first_entry(session.name))
    for content in (b"", b"[]", b"{}", b'{"journal_bytes": 1, "changes": 0}', b"\xff"):
        (session / "left.json").write_bytes(content)
        assert row_of(session).changes == found


def test_dropping_twice_says_that_there_is_nothing_the_second_time(session, capsys):
    assert discard(session.name) == 0
    assert "changes dropped" in capsys.readouterr().out
    assert discard(session.name) == 0
    assert "nothing to drop" in capsys.readouterr().out
    with pytest.raises(UsageError, match="they were dropped"):
        diff(session.name, None)
