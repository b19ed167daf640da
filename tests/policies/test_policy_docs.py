"""Examples in the pages are policies that load, and the page on policies names every table and command."""

import re
from pathlib import Path

import pytest

from harness.cli.table import GROUPS
from policies import load
from policies.schema import Policy

DOCS = Path(__file__).parents[2] / "docs"
BLOCKS = [
    (page.name, number, text)
    for page in sorted(DOCS.glob("*.md"))
    for number, text in enumerate(
        re.findall(r"^```toml\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    )
]
PAGE = (DOCS / "policies.md").read_text()


def test_there_are_examples():
    assert len([name for name, *_ in BLOCKS if name == "policies.md"]) >= 2


@pytest.mark.parametrize(("page", "number", "text"), BLOCKS, ids=lambda value: str(value)[:20])
def test_an_example_is_a_policy(policy_file, page, number, text):
    assert load(policy_file(text, "example.toml"))


def test_every_table_and_its_keys_are_named():
    for name, field in Policy.model_fields.items():
        if name in ("name", "description", "unmatched"):
            continue
        assert f"[{name}]" in PAGE
        if name in ("network", "workspace", "container", "secrets", "sudo"):
            assert [key for key in field.annotation.model_fields if f"`{key}`" not in PAGE] == []


def test_every_command_is_named():
    names = {command.__name__ for command in GROUPS["policy"][1]} - {"list_"}
    assert [name for name in names if f"usermode policy {name}" not in PAGE] == []
