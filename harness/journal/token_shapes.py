"""What well-known credentials look like. Data only: `redact.py` applies it.

Guests choose the text these run on, so each is linear: a shape begins where its alphabet begins (the
look-behind), and what follows is possessive or bounded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    hints: tuple[str, ...]
    """One of these is in any text that matches; a cheap test before the pattern."""
    pattern: re.Pattern[str]
    replacement: str = "‹redacted:pattern›"


_BEGINS = r"(?<![A-Za-z0-9_-])"
_GAP = r"(?:\s|\\[rn])++"
_KEY_HEADER = r"-----BEGIN\ [A-Z0-9 ]{0,40}PRIVATE\ KEY(?:\ BLOCK)?-----"
_KEY_LINE = rf"(?:{_GAP}(?:[A-Za-z-]{{1,40}}:\ [^\n\\]{{0,200}}+|[A-Za-z0-9+/=]{{16,}}+))"
_PRIVATE_KEY = rf"""
    {_KEY_HEADER} {_KEY_LINE}++
    (?:{_GAP}[A-Za-z0-9+/=]{{1,15}}(?={_GAP}-----END))?
    (?:{_GAP}-----END\ [A-Z0-9 ]{{0,40}}PRIVATE\ KEY(?:\ BLOCK)?-----)?
"""


def _token(hints: tuple[str, ...], pattern: str) -> Shape:
    return Shape(hints, re.compile(_BEGINS + pattern))


SHAPES = (
    Shape(("-----BEGIN ",), re.compile(_PRIVATE_KEY, re.VERBOSE)),
    _token(("sk-",), r"sk-[A-Za-z0-9_-]{20,}+"),
    _token(("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), r"gh[pousr]_[A-Za-z0-9]{30,}+"),
    _token(("github_pat_",), r"github_pat_[A-Za-z0-9_]{22,}+"),
    _token(("glpat-",), r"glpat-[A-Za-z0-9_-]{20,}+"),
    _token(("AKIA", "ASIA"), r"A[KS]IA[A-Z0-9]{16}(?![A-Za-z0-9])"),
    _token(("AIza",), r"AIza[A-Za-z0-9_-]{35}"),
    _token(("xox",), r"xox[abeprs]-[A-Za-z0-9-]{10,}+"),
    _token(("_live_", "_test_"), r"[prs]k_(?:live|test)_[A-Za-z0-9]{16,}+"),
    _token(("hf_",), r"hf_[A-Za-z0-9]{30,}+"),
    _token(("npm_",), r"npm_[A-Za-z0-9]{30,}+"),
    _token(("pypi-",), r"pypi-[A-Za-z0-9_-]{50,}+"),
    _token(("eyJ",), r"eyJ[A-Za-z0-9_-]{10,}+\.eyJ[A-Za-z0-9_-]{10,}+\.[A-Za-z0-9_-]{10,}+"),
    Shape(
        ("uthorization", "UTHORIZATION"),
        re.compile(
            r"""((?i:authorization)\\?["']?\s{0,8}[:=]\s{0,8}\\?["']?(?i:bearer|basic|token|digest)\s{1,8})[^\s"'\\‹]{6,}+"""
        ),
        "\\1‹redacted:pattern›",
    ),
    Shape(
        ("-api-key", "-Api-Key", "-API-KEY"),
        re.compile(r"""((?i:-api-key)\\?["']?\s{0,8}[:=]\s{0,8}\\?["']?)[^\s"'\\‹]{6,}+"""),
        "\\1‹redacted:pattern›",
    ),
    # The password of a URL, as in a remote with a token in it. ASCII without white space, `/` and `@`.
    Shape(
        ("://",), re.compile(r"(://[!-.0-9;-?A-~]{0,200}+:)[!-.0-?A-~]{1,400}+(?=@)"), "\\1‹redacted:pattern›"
    ),
)

WORD = re.compile(r"[!-~]+\Z")
"""The unfinished word at the end of a text: any shape without white space in it is inside one."""

OPENED = re.compile(
    rf"""
    -----BEGIN\ [A-Z0-9 ]{{0,58}}-{{0,5}}\Z
    | {_KEY_HEADER} {_KEY_LINE}*+ (?:{_GAP}[A-Za-z0-9+/=]{{1,15}}+)? (?:\s|\\[rn])*+
      (?:[!-~]*+ | -----END\ [A-Z0-9 ]{{0,60}}-{{0,5}})\Z
    | (?i:authorization|-api-key)[^\n]{{0,2000}}\Z
    """,
    re.VERBOSE,
)
"""A shape with white space in it that has begun and may go on."""
