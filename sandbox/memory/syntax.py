"""The part of the POSIX shell language that the double understands, as a tree.

What it does not know it refuses with `Unsupported`; guessing would make a test pass for the wrong reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


class Unsupported(Exception):
    """A syntax error, or shell language beyond the double's."""


@dataclass(frozen=True)
class Part:
    kind: Literal["text", "variable", "command", "arithmetic"]
    text: str
    quoted: bool = False
    operator: str = ""
    """Of `${name:-word}`: one of `-`, `:-`, `+`, `:+`, `length`, `#`, `%`, `%%`, `##`, `=`, `:=`."""
    operand: Word = ()


Word = tuple[Part, ...]


@dataclass(frozen=True)
class Redirection:
    fd: int
    operator: str
    target: Word


@dataclass(frozen=True)
class Simple:
    assignments: tuple[tuple[str, Word], ...]
    words: tuple[Word, ...]
    redirections: tuple[Redirection, ...]


@dataclass(frozen=True)
class Compound:
    kind: Literal["subshell", "group", "while", "until", "for", "if", "case", "function"]
    parts: tuple[Script, ...] = ()
    """Bodies; of `if` and the loops, conditions and bodies in turn."""
    name: str = ""
    words: tuple[Word, ...] | None = None
    patterns: tuple[tuple[Word, ...], ...] = ()
    redirections: tuple[Redirection, ...] = ()


@dataclass(frozen=True)
class Pipeline:
    commands: tuple[Simple | Compound, ...]
    negated: bool = False


@dataclass(frozen=True)
class Item:
    """Pipelines joined by `&&` and `||`, perhaps in the background."""

    first: Pipeline
    rest: tuple[tuple[str, Pipeline], ...] = ()
    background: bool = False


Script = tuple[Item, ...]
