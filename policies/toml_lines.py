"""On which line of a TOML text each key stands: the parser gives values only, an error needs the place."""

from __future__ import annotations

import re

Key = tuple[str | int, ...]

_PART = re.compile(r"""\s*(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([A-Za-z0-9_-]+))\s*""")
_DEPTH = 6
"""Parts of a key that are kept; no key of a policy has more."""
_SKIP = re.compile(r'#.*|"""|\'\'\'|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'|[\[\]{}]|.', re.ASCII)


def key_lines(text: str) -> dict[Key, int]:
    """Every table header and key of a text that the parser has accepted, with its line counted from 1.

    Elements of an array of tables are numbered from 0. Keys inside an inline table share its line.
    """
    lines: dict[Key, int] = {}
    counts: dict[Key, int] = {}
    table: Key = ()
    depth, quote = 0, ""
    for number, line in enumerate(text.split("\n"), 1):
        rest = line.strip()
        if not depth and not quote:
            if not rest or rest.startswith("#"):
                continue
            if rest.startswith("["):
                table = _header(rest, counts)
                lines.setdefault(table, number)
                continue
            parts, end = _dotted(rest, 0)
            key = table
            for part in parts[:_DEPTH]:
                key = (*key, part)
                lines.setdefault(key, number)
            rest = rest[end + 1 :]
        depth, quote = _scan(rest, depth, quote)
    return lines


def line_of(lines: dict[Key, int], key: Key) -> int | None:
    """The line of a key, or of the nearest table that holds it."""
    while key not in lines and key:
        key = key[:-1]
    return lines.get(key)


def _header(rest: str, counts: dict[Key, int]) -> Key:
    array = rest.startswith("[[")
    parts, _ = _dotted(rest, 2 if array else 1)
    key: Key = ()
    for place, part in enumerate(parts[:_DEPTH], 1):
        key = (*key, part)
        if array and place == len(parts):
            counts[key] = counts.get(key, -1) + 1
        if key in counts:
            key = (*key, counts[key])
    return key


def _dotted(text: str, at: int) -> tuple[list[str], int]:
    """The parts of a dotted key, and the index of the character after it."""
    parts: list[str] = []
    while found := _PART.match(text, at):
        parts.append(next(group for group in found.groups() if group is not None))
        at = found.end()
        if text[at : at + 1] != ".":
            break
        at += 1
    return parts, at


def _scan(text: str, depth: int, quote: str) -> tuple[int, str]:
    """Brackets still open and multi-line string still unfinished after this line of a value."""
    at = 0
    while at < len(text):
        if quote:
            end = text.find(quote, at)
            if quote == '"""':
                while end > 0 and _escaped(text, end):
                    end = text.find(quote, end + 1)
            if end < 0:
                return depth, quote
            at, quote = end + 3, ""
            continue
        found = _SKIP.match(text, at)
        assert found is not None
        token = found.group()
        at = found.end()
        if token in ('"""', "'''"):
            quote = token
        elif token in "[{":
            depth += 1
        elif token in "]}":
            depth -= 1
    return depth, quote


def _escaped(text: str, at: int) -> bool:
    before = text[:at]
    return (len(before) - len(before.rstrip("\\"))) % 2 == 1
