"""The command line: what it says, how it ends, and what it does not import."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import __version__
from harness.cli import main

HEAVY = {"anthropic", "docker", "openai", "requests", "rich", "tenacity", "tree_sitter"}
ROOT = Path(__file__).parents[2]
Command = Callable[..., subprocess.CompletedProcess[str]]


def usermode(
    *argv: str, cwd: Path = ROOT, stdin: str | None = None, **environ: str
) -> subprocess.CompletedProcess[str]:
    """The real command in a process of its own, as a user would start it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("USERMODE_")}
    return subprocess.run(
        [sys.executable, "-m", "harness", *argv],
        cwd=cwd,
        env={**kept, "PYTHONPATH": str(ROOT), "COLUMNS": "100", **environ},
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """The same command in this process: for what an interpreter of its own would only make slower."""

    def run(*argv: str, home: Path) -> subprocess.CompletedProcess[str]:
        monkeypatch.chdir(ROOT)
        monkeypatch.setattr(sys, "argv", ["usermode", *argv])
        for name in [name for name in os.environ if name.startswith("USERMODE_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("USERMODE_HOME", str(home))
        with pytest.raises(SystemExit) as left:
            main()
        return subprocess.CompletedProcess(argv, int(left.value.code or 0), *capfd.readouterr())

    return run


@pytest.mark.parametrize(
    ("argv", "heavy"),
    [
        (["--help"], {*HEAVY, "pydantic"}),
        ([], {*HEAVY, "pydantic"}),
        # Here typer reads the options, which newer releases of it do with pydantic.
        (["--version"], HEAVY),
        (["run", "--help"], HEAVY),
        (["rum"], HEAVY),
    ],
)
def test_help_and_typing_errors_import_nothing_heavy(argv: list[str], heavy: set[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "harness", *argv],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    imported = {match.split(".")[0] for match in re.findall(r"\|\s+([\w.]+)$", done.stderr, re.MULTILINE)}
    assert "typer" in imported
    assert not imported & heavy


def test_help_names_every_command_and_the_exit_codes() -> None:
    text = usermode("--help").stdout
    for command in (
        "run shell ps log mem show verify diff apply discard kill approvals approve deny grants revoke port "  # noqa: SIM905
        "gc doctor image policy".split()
    ):
        assert re.search(rf"^  {command} ", text, re.MULTILINE), command
    assert "130 interrupted" in " ".join(text.split())


def test_a_wrong_request_of_a_real_process_ends_it_with_code_2(tmp_path: Path) -> None:
    done = usermode("policy", "show", "nope", USERMODE_HOME=str(tmp_path))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "no such profile" in done.stderr


def test_version() -> None:
    done = usermode("--version")
    assert (done.returncode, done.stdout) == (0, f"usermode {__version__}\n")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["run"], "Missing argument"),
        (["frobnicate"], "No such command"),
        (["run", "task", "--max-turns", "0", "--model", "scripted:x"], "--max-turns"),
        (["run", "task"], "no model"),
        (["run", "  ", "--model", "scripted:x"], "the task is empty"),
        (["run", "task", "--model", "scripted:x", "--policy", "nope"], "no such profile"),
        (["run", "task", "--model", "scripted:x", "--policy", "./nope.toml"], "no such file"),
        (["run", "task", "--model", "scripted:x", "-w", "/nowhere/at/all"], "not a directory"),
        (["run", "task", "--model", "scripted:x", "-w", ".", "--no-workspace"], "exclude each other"),
        (["run", "task", "--model", "scripted:x", "--runtime", "host"], "there are runc and runsc"),
        (["run", "task", "--model", "scripted:x", "--max-cost", "-1"], "out of its range"),
        (["policy", "show", "nope"], "no such profile"),
    ],
)
def test_a_wrong_request_is_one_clear_line_and_code_2(
    here: Command, tmp_path: Path, argv: list[str], said: str
) -> None:
    done = here(*argv, home=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[limits]\nmemory_mb = 64\nmemroy_mb = 64\n", "bad.toml:3: limits.memroy_mb: "),
        ("[network]\nask = 'no'\n", "bad.toml:2: network.ask: "),
        ("[[rules]]\nsyscall = 'bash'\naction = 'alow'\nreason = 'x'\n", "bad.toml:3: rules[1].action: "),
        ("[network\n", "bad.toml:1: not TOML"),
    ],
)
def test_a_malformed_policy_starts_nothing_and_is_named_by_its_line(
    here: Command, tmp_path: Path, text: str, said: str
) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(text)
    argv = ["run", "task", "--model", "scripted:x", "--policy", str(file)]
    done = here(*argv, home=tmp_path / "home")
    assert done.returncode == 2
    assert said in done.stderr
    assert not (tmp_path / "home").exists()


def test_policies_can_be_listed_and_read(here: Command, tmp_path: Path) -> None:
    listed = here("policy", "list", home=tmp_path).stdout
    assert [line.split()[0] for line in listed.splitlines()] == ["dev", "eval", "offline", "strict"]
    shown = here("policy", "show", "strict", home=tmp_path).stdout
    assert "memory_mb" in shown


def test_a_reader_that_leaves_early_is_no_error() -> None:
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {sys.executable} -m harness policy show strict | true"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in {0, 141}
    assert done.stderr == ""
