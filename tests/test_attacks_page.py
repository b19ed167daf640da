"""The page of attacks names tests, and each of them is there."""

from __future__ import annotations

import re
from pathlib import Path

from sandbox.conformance import CHECKS

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "attacks.md").read_text()
REFERENCE = re.compile(r"`(?P<file>(?:[\w/]+/)?test_\w+\.py)?(?:::(?P<test>test_\w+))?`")


def test_every_test_that_is_named_exists() -> None:
    sources = {path.name: path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}
    missing, seen, file = [], 0, ""
    for found in REFERENCE.finditer(PAGE):
        named = found["file"] or file
        file = Path(named).name
        if "/" in named and not (ROOT / named).is_file():
            missing.append(named)
        if found["test"] and f"def {found['test']}(" not in sources.get(file, ""):
            missing.append(f"{file}::{found['test']}")
        seen += found["test"] is not None
    assert missing == []
    assert seen > 100


def test_every_check_of_the_contract_that_is_named_exists() -> None:
    named = set(re.findall(r"`([a-z]+\.[a-z0-9-]+)`", PAGE))
    assert named
    assert named - {one.id for one in CHECKS} == set()
