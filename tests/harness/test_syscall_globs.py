"""Glob patterns, pure."""

from __future__ import annotations

import pytest

from harness.syscalls.base import Refused
from harness.syscalls.globs import matches


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("*.py", "a.py", True),
        ("*.py", "deep/down/a.py", True),
        ("src/*.py", "src/a.py", True),
        ("src/*.py", "src/sub/a.py", False),
        ("src/**/*.py", "src/a.py", True),
        ("src/**/*.py", "src/x/y/a.py", True),
        ("**/test_*.py", "tests/unit/test_a.py", True),
        ("**/test_*.py", "test_a.py", True),
        ("**", "any/thing", True),
        ("src/**", "src/a/b", True),
        ("src/**", "other/a", False),
        ("*.{c,h}", "x/y.h", True),
        ("{src,lib}/**/*.{c,h}", "lib/z/y.c", True),
        ("*.{c,h}", "y.o", False),
        ("?.txt", "a.txt", True),
        ("?.txt", "ab.txt", False),
        ("[ab].txt", "b.txt", True),
        ("[!ab].txt", "b.txt", False),
        ("./src/a", "src/a", False),
        ("/src/a", "src/a", True),
        ("a/**/b/**/c", "a/b/x/c", True),
        ("a/**/b/**/c", "a/x/c", False),
        ("a/**/**/**/c", "a/c", True),
        ("**/**", "any/thing", True),
    ],
)
def test_patterns(pattern, path, expected):
    assert matches(pattern, path) is expected


def test_stars_against_a_long_path_are_quick():
    assert not matches("/".join(["**", "a*"] * 30) + "/z", "/".join(["aaaa"] * 60))
    # Two hundred thousand names may be looked at.
    for _ in range(20_000):
        assert not matches("**/" * 330 + "z", "a/b/c")


def test_braces_do_not_multiply_without_bound():
    with pytest.raises(Refused, match="alternatives"):
        matches("{a,b}" * 20, "x")
