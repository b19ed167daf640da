"""`usermode policy …`: files checked, decisions explained, examples run, recorded sessions decided again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from journal_double import first_entry
from typer.testing import CliRunner

from harness.cli import app
from harness.events import CallIntent, CallOutcome, EgressDecided, Entry
from harness.journal.redact import Redactor
from harness.journal.writer import Journal
from harness.messages import Call
from harness.messages import Result as CallResult
from harness.store import Store

Usermode = Callable[..., Any]
REVIEW = """
extends = "none"
[network]
allow = ["a.test"]
[[rules]]
syscall = "bash"
when.command = "git log"
action = "allow"
reason = "Reading history."
match = ["git log -n 5"]
not_match = ["git log --output=f"]
[[rules]]
syscall = "bash"
when.command = "git push"
action = "deny"
reason = "Releases are made by hand."
[[rules]]
syscall = "read"
when.path = "/workspace/**"
action = "allow"
reason = "The workspace is the session's own."
"""


@pytest.fixture
def usermode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Usermode:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("USERMODE_HOME", str(tmp_path / "home"))
    return lambda *argv: CliRunner().invoke(app, ["policy", *argv])


@pytest.fixture
def review(tmp_path: Path) -> str:
    (tmp_path / "review.toml").write_text(REVIEW)
    return "./review.toml"


def test_check_names_every_mistake_with_its_line(usermode: Usermode, tmp_path: Path, review: str) -> None:
    (tmp_path / "bad.toml").write_text("[limits]\nmemroy_mb = 1\npids = 'x'\n\n[network]\nallow = ['*']\n")
    done = usermode("check", "bad.toml")
    assert done.exit_code == 2
    places = [line.split(": ")[:2] for line in done.stderr.splitlines()]
    assert places == [
        ["bad.toml:2", "limits.memroy_mb"],
        ["bad.toml:3", "limits.pids"],
        ["bad.toml:6", "network.allow[1]"],
    ]
    assert usermode("check", review).exit_code == 0


def test_check_names_every_example_that_fails(usermode: Usermode, tmp_path: Path) -> None:
    text = REVIEW.replace('"git log -n 5"', '"git log -n 5", "git pull"').replace("--output=f", "")
    (tmp_path / "bad.toml").write_text(text)
    done = usermode("check", "bad.toml")
    assert done.exit_code == 2
    assert done.stderr.count("rules[1].match: the rule does not apply to its example `git pull`") == 1
    assert done.stderr.count("rules[1].not_match: the rule applies to its counter-example `git log `") == 1
    tested = usermode("test", "bad.toml")
    assert tested.exit_code == 1
    assert tested.stdout.count("FAILED") == 2
    assert "3 examples of 3 rules, 2 failed" in tested.stdout


def test_explain_says_how_a_line_was_read_and_which_rule_decides(usermode: Usermode, review: str) -> None:
    shown = usermode("explain", "--profile", review, "--", "bash", "git log -n 5 && git push").stdout
    assert "command 1: git log -n 5\ncommand 2: git push" in shown
    assert "covers 1 of 2 commands, not command 2: it begins otherwise" in shown
    assert shown.splitlines()[-1] == "deny: rule 2 (deny bash, command git push): Releases are made by hand."
    unparsed = usermode("explain", "-p", review, "--", "bash", "git log $(id)").stdout
    assert "unparsed, it has an expansion" in unparsed
    assert unparsed.splitlines()[-1].startswith("deny: default")


def test_explain_speaks_of_paths_and_hosts(usermode: Usermode, review: str) -> None:
    shown = usermode("explain", "-p", review, "--path", "/workspace/../etc/x").stdout
    assert "path /etc/x" in shown
    assert shown.count("deny: default") == 2
    assert usermode("explain", "-p", review, "--host", "A.test:443").stdout.splitlines()[-1] == (
        "allow: network.allow a.test: The policy lists it."
    )
    assert "deny: unclear host" in usermode("explain", "-p", review, "--host", "2130706433").stdout


@pytest.mark.parametrize(
    "argv",
    [[], ["--path", "/a", "--host", "b"], ["--", "bsh", "ls"], ["--", "bash", "a", "b"], ["--host", "a:0"]],
)
def test_a_question_that_is_none_is_a_usage_error(usermode: Usermode, argv: list[str]) -> None:
    assert usermode("explain", *argv).exit_code == 2


def test_lint_fails_on_warnings_where_it_is_strict(usermode: Usermode, tmp_path: Path) -> None:
    (tmp_path / "wide.toml").write_text('[network]\nallow = ["*.test"]\n')
    assert usermode("lint", "./wide.toml").exit_code == 0
    assert usermode("lint", "./wide.toml", "--strict").exit_code == 1
    assert usermode("lint", "strict", "--strict").exit_code == 0


def test_hostile_text_is_shown_escaped(usermode: Usermode, review: str) -> None:
    shown = usermode("explain", "-p", review, "--", "bash", "ls '\x1b[2K\u202e'").stdout
    assert "\x1b" not in shown
    assert "\u202e" not in shown


async def test_replay_says_what_would_be_decided_otherwise(
    usermode: Usermode, tmp_path: Path, review: str
) -> None:
    directory = Store(tmp_path / "home").new_session()
    journal = Journal.create(directory, redactor=Redactor({}))
    entries: list[Entry] = [first_entry(directory.name)]
    made = [
        ("bash", {"command": "git log"}), ("bash", {"command": "git push"}), ("read", {"path": "a.txt"}),
        ("read", {"path": "../etc/passwd"}), ("nosuch", {}),
    ]  # fmt: skip
    for number, (name, arguments) in enumerate(made):
        call = Call(id=f"c{number}", name=name, arguments=arguments)
        entries.append(
            CallIntent(call=call, exec_id=f"{number:032x}", decision="allow", rule="rule 1 (allow *)")
        )
        entries.append(CallOutcome(result=CallResult(call_id=call.id, name=name, content=""), duration_s=0))
    for host, decision in (("a.test", "allow"), ("b.test", "allow"), ("c.test", "deny")):
        entries.append(
            EgressDecided(
                connection=1,
                protocol="connect",
                host=host,
                port=443,
                decision=decision,
                rule="r",
                reason="R.",
            )
        )
    await journal.append_many(entries)
    journal.close()
    done = usermode("replay", "last", "--policy", review)
    assert done.exit_code == 1, done.output
    assert "3 of 7 decisions would differ" in done.stdout
    told = [
        json.loads(line) for line in usermode("replay", "last", "-p", review, "--json").stdout.splitlines()
    ]
    assert [(one["what"], one["was"], one["now"]["decision"]) for one in told] == [
        ("$ git push", "allow", "deny"),
        ("read ../etc/passwd", "allow", "deny"),
        ("connect to b.test port 443", "allow", "deny"),
    ]
    (tmp_path / "same.toml").write_text('[network]\nallow = ["a.test", "b.test"]\n')
    assert usermode("replay", "last", "-p", "./same.toml").exit_code == 0
