"""The house's papers: what README and docs name is there, and the commands they show exist."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import typer.main
from typer.core import TyperCommand as Command

from harness.cli import app

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)")


def names(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_every_link_leads_to_a_file(page: Path) -> None:
    missing = [link for link in LINK.findall(page.read_text()) if not (page.parent / link).exists()]
    assert missing == []


def test_the_index_names_every_page() -> None:
    index = (ROOT / "docs" / "index.md").read_text()
    unnamed = [
        page.name
        for page in (ROOT / "docs").glob("*.md")
        if page.name not in index and page.name != "index.md"
    ]
    assert unnamed == []


def code(page: Path) -> str:
    """What stands in fences and backticks, a line each."""
    blocks = re.findall(r"^```\n(.*?)^```|`([^`\n]+)`", page.read_text(), re.MULTILINE | re.DOTALL)
    return "\n".join(fenced or inline for fenced, inline in blocks)


def command_line() -> dict[str, Command]:
    return typer.main.get_command(app).commands  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_every_command_that_is_shown_exists(page: Path) -> None:
    shown = set(re.findall(r"^usermode ([a-z]+)", code(page), re.MULTILINE))
    # The design names what is built after this.
    assert page.name == "design.md" or shown <= set(command_line())
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"^make ([a-z-]+)", code(page), re.MULTILINE)) <= targets


def test_every_option_that_is_shown_exists() -> None:
    for page in (ROOT / "README.md", ROOT / "docs" / "cli.md"):
        for command, rest in re.findall(r"^usermode ([a-z]+)(.*)", code(page), re.MULTILINE):
            known = {name for parameter in command_line()[command].params for name in parameter.opts}
            assert set(re.findall(r"(?<=\s)--[a-z-]+", rest)) <= known, command


def test_ci_runs_what_the_readme_tells_a_newcomer() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    for command in ("make demo", "make test", "make check"):
        assert command in script
        assert command in (ROOT / "README.md").read_text()
    assert subprocess.run(["bash", "-n", ROOT / ".ci" / "run"], check=False).returncode == 0
    for demo in ("run", "crash"):
        assert subprocess.run(["bash", "-n", ROOT / "docs" / "demo" / demo], check=False).returncode == 0
