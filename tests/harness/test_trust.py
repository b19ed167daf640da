"""A project's policy file loosens only while it is, byte for byte, the one the user trusted."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pexpect
import pytest
from boot_double import Started
from typer.testing import CliRunner

from harness.cli import app
from harness.commands.place import Said, place
from harness.errors import UsageError
from harness.trust import FILE, Trust, in_force, project_file
from policies import PolicyError, load
from policies.load import PROJECT_FILE

ROOT = Path(__file__).parents[2]
LOOSE = '[limits]\nmemory_mb = 9000\n[container]\nseccomp = "debug"\n[network]\nallow = ["evil.test"]\n'
STRICT = load("strict")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    directory = tmp_path / "project"
    directory.mkdir()
    (directory / PROJECT_FILE).write_text(LOOSE)
    return directory


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def trust(home: Path, project: Path) -> None:
    found = project_file(project)
    assert found is not None
    Trust(home).give(found)


def test_without_trust_it_only_tightens_and_that_is_said(home: Path, project: Path) -> None:
    policy, notices = in_force(STRICT, project, home)
    assert policy == STRICT
    assert [notice.level for notice in notices] == ["warning"] * 3


def test_what_is_trusted_loosens_and_that_is_said_too(home: Path, project: Path) -> None:
    trust(home, project)
    policy, notices = in_force(STRICT, project, home)
    assert (policy.limits.memory_mb, policy.container.seccomp) == (9000, "debug")
    assert policy.network.allow == ("evil.test",)
    assert policy.name == "strict"
    assert [notice.level for notice in notices] == ["info"] * 4


def test_what_was_typed_is_not_loosened_even_by_a_trusted_file(home: Path, project: Path) -> None:
    (project / PROJECT_FILE).write_text('[limits]\nturns = 999\ntokens = 5\n[workspace]\nmode = "bind"\n')
    trust(home, project)
    place_ = place(Said("strict", project, False, None, None, "copy"), turns=3, tokens=7)
    policy, _ = in_force(place_.policy, project, home, place_.typed)
    assert (policy.limits.turns, policy.limits.tokens, policy.workspace.mode) == (3, 5, "copy")
    policy, _ = in_force(STRICT, project, home)
    assert (policy.limits.turns, policy.limits.tokens, policy.workspace.mode) == (999, 5, "bind")


@pytest.mark.parametrize("text", [LOOSE + "\n", LOOSE.replace("9000", "9001"), LOOSE + "# harmless\n"])
def test_a_changed_file_is_back_to_tightening(home: Path, project: Path, text: str) -> None:
    trust(home, project)
    (project / PROJECT_FILE).write_text(text)
    policy, notices = in_force(STRICT, project, home)
    assert policy == STRICT
    assert "changed since it was trusted" in notices[0].text
    (project / PROJECT_FILE).write_text(LOOSE)
    assert in_force(STRICT, project, home)[0].limits.memory_mb == 9000


def test_the_same_file_elsewhere_is_not_trusted(home: Path, project: Path) -> None:
    trust(home, project)
    other = project.with_name("other")
    project.rename(other)
    assert in_force(STRICT, other, home)[0] == STRICT
    # A link to where it stood, and a directory put in its place, are looked at for what they are.
    project.symlink_to(other)
    assert in_force(STRICT, project, home)[0] == STRICT


def test_a_link_to_a_trusted_directory_is_that_directory(home: Path, project: Path) -> None:
    trust(home, project)
    link = project.with_name("link")
    link.symlink_to(project)
    assert in_force(STRICT, link, home)[0].limits.memory_mb == 9000


def test_a_file_that_is_a_link_is_refused_whatever_was_trusted(home: Path, project: Path) -> None:
    trust(home, project)
    real = project / "real.toml"
    (project / PROJECT_FILE).rename(real)
    (project / PROJECT_FILE).symlink_to(real)
    with pytest.raises(PolicyError, match="symbolic link"):
        in_force(STRICT, project, home)


def test_a_refusal_of_the_user_stands_over_a_trusted_file(home: Path, project: Path, tmp_path: Path) -> None:
    rule = '[[rules]]\nsyscall = "bash"\naction = "{}"\nreason = "R."\n'
    (tmp_path / "mine.toml").write_text(rule.format("deny"))
    (project / PROJECT_FILE).write_text(rule.format("allow"))
    trust(home, project)
    policy, _ = in_force(load(tmp_path / "mine.toml"), project, home)
    assert [one.action for one in policy.rules] == ["allow", "deny", "allow"]


def test_a_trusted_file_cannot_contradict_the_policy(home: Path, project: Path) -> None:
    (project / PROJECT_FILE).write_text('[[secrets.bound]]\nname = "T"\nhost = "a.test"\n')
    trust(home, project)
    with pytest.raises(UsageError, match="intercept"):
        in_force(STRICT, project, home)


@pytest.mark.parametrize("content", ["{", "[]", '{"a": 1}', "\x00"])
def test_a_damaged_record_stops_the_start(home: Path, project: Path, content: str) -> None:
    trust(home, project)
    (home / FILE).write_text(content)
    with pytest.raises(UsageError, match="damaged"):
        in_force(STRICT, project, home)


def test_the_record_is_private_and_survives_a_second_project(
    home: Path, project: Path, tmp_path: Path
) -> None:
    trust(home, project)
    second = tmp_path / "second"
    second.mkdir()
    (second / PROJECT_FILE).write_text(LOOSE)
    trust(home, second)
    assert (home / FILE).stat().st_mode & 0o777 == 0o600
    assert Trust(home).withdraw(project)
    assert not Trust(home).withdraw(project)
    assert in_force(STRICT, project, home)[0] == STRICT
    assert in_force(STRICT, second, home)[0].limits.memory_mb == 9000


def usermode(home: Path, *argv: str) -> tuple[int, str]:
    done = CliRunner(env={"USERMODE_HOME": str(home)}).invoke(app, ["policy", *argv])
    return done.exit_code, done.output


def test_where_nobody_can_be_asked_nothing_is_trusted_without_yes(home: Path, project: Path) -> None:
    code, output = usermode(home, "trust", str(project))
    assert code == 2
    assert "nobody can be asked" in output
    assert in_force(STRICT, project, home)[0] == STRICT
    code, output = usermode(home, "trust", str(project), "--yes")
    assert code == 0
    assert "container.seccomp: debug is looser" in output
    assert in_force(STRICT, project, home)[0].limits.memory_mb == 9000
    assert "is trusted as it stands" in usermode(home, "trust", str(project))[1]
    assert usermode(home, "distrust", str(project))[0] == 0
    assert in_force(STRICT, project, home)[0] == STRICT


def test_all_that_a_file_says_is_shown_also_what_tightens(home: Path, project: Path) -> None:
    text = (
        '[sudo]\nmay_ask = ["root"]\n'
        + LOOSE
        + '[[rules]]\nsyscall = "*"\naction = "allow"\nreason = "Hm."\n'
    )
    (project / PROJECT_FILE).write_text(text)
    _, output = usermode(home, "trust", str(project), "--yes")
    for line in ("sudo.may_ask: ('root',)", "limits.memory_mb: 9000", "rule 1 (allow *): Hm."):
        assert f"  {line}\n" in output


@pytest.mark.parametrize(
    ("ahead", "typed", "trusted"), [("", "yes", True), ("", "", False), ("", "y", False), ("yes", "", False)]
)
def test_at_a_terminal_only_a_typed_yes_is_one(
    home: Path, project: Path, ahead: str, typed: str, trusted: bool
) -> None:
    child = pexpect.spawn(
        sys.executable,
        ["-m", "harness", "policy", "trust", str(project)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "USERMODE_HOME": str(home)},
        encoding="utf-8",
        timeout=30,
    )
    if ahead:
        child.sendline(ahead)
    child.expect("Type yes: ")
    child.sendline(typed)
    child.expect(pexpect.EOF)
    child.close()
    assert (child.exitstatus == 0) is trusted
    assert (in_force(STRICT, project, home)[0] == STRICT) is not trusted


async def test_a_session_runs_under_the_trusted_file_and_its_journal_says_so(tmp_path: Path) -> None:
    started = Started(tmp_path)
    (started.workspace / PROJECT_FILE).write_text(LOOSE)
    trust(started.home, started.workspace)
    started.says("Done.")
    await started.run()
    assert started.journal[0].policy["limits"]["memory_mb"] == 9000
    assert started.machine.opened[0].policy.container.seccomp == "debug"
    said = [entry for entry in started.journal if entry.kind == "notice" and entry.code == "policy"]
    assert [entry.level for entry in said] == ["info"] * 4
    assert "container.seccomp: debug" in said[1].text + said[2].text + said[3].text
