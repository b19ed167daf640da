"""Read a bash command line in a strict subset: plain words joined by `&&`, `||`, `;`, `|` and newlines.

Everything else is "unparsed": expansions, substitutions, redirections, assignments, here-documents,
background jobs, compound commands, comments, and also globs, braces and tildes (a file the guest named
`--output=x` becomes an option through `*`). Two readers that share no code, a scanner of that subset and
tree-sitter's grammar, must agree word for word; a doubt of either makes the line unparsed. This reading
is a convenience and never a boundary.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tree_sitter import Language, Node

Words = tuple[str, ...]

MAX_CHARS = 16 << 10
"""Longer lines are unparsed: no plain command needs more, and the time to decide stays bounded."""

_TOKEN = re.compile(
    r"""(?P<space>[ \t]+)|(?P<newline>\n)|(?P<op>&&|\|\||;|\|)
      |(?P<word>(?:[A-Za-z0-9_./,:@%+=-]+|'[^'\n]*'|"[^"\\$`!\n]*")+)""",
    re.VERBOSE,
)
_PIECE = re.compile(r"""[^'"]+|'[^']*'|"[^"]*\"""")
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\+?=")
_RESERVED = frozenset(
    {
        "if",
        "then",
        "else",
        "elif",
        "fi",
        "for",
        "while",
        "until",
        "do",
        "done",
        "case",
        "esac",
        "select",
        "in",
    }
    | {"function", "time", "coproc"}
)
_UNPARSED_CHARS = {
    "$": "an expansion",
    "`": "a command substitution",
    "\\": "a backslash",
    "<": "a redirection",
    ">": "a redirection",
    "&": "a background job or redirection",
    "(": "a subshell or function",
    ")": "a subshell or function",
    "{": "a brace",
    "}": "a brace",
    "*": "a glob",
    "?": "a glob",
    "[": "a glob or test",
    "]": "a glob or test",
    "~": "a tilde",
    "!": "a `!`",
    "#": "a comment",
    "'": "an unfinished quote",
    '"': "a quote that is unfinished or holds an expansion",
}


@dataclass(frozen=True)
class Parsed:
    commands: tuple[Words, ...] | None
    """The words of each command, quotes taken off; None if the line is outside the subset, never empty."""
    why: str
    """What put it outside; empty otherwise."""
    text: str

    @cached_property
    def places(self) -> dict[str, list[int]]:
        """Where in the text each thing stands that could be a word: for refusals, not for consent."""
        return word_places(loose_words(self.text))


def parse(text: str) -> Parsed:
    """Never raises, whatever the text."""
    read = _scan(text)
    if isinstance(read, str):
        return Parsed(None, read, text)
    if _grammar_reading(text) != read:
        return Parsed(None, "it has no single clear reading", text)
    return Parsed(read, "", text)


def loose_words(text: str) -> Words:
    """Split at everything that separates words anywhere in the shell, inside quotes too."""
    bare = text.replace("\\\n", "").translate(str.maketrans("", "", "\"'\\"))
    return tuple(word for word in re.split(r"[\s;|&()<>$`{}=,!*?\[\]~#]+", bare) if word)


def word_places(words: Words) -> dict[str, list[int]]:
    """The ascending places of each word; a path is also the name it ends in."""
    places: dict[str, list[int]] = {}
    for place, word in enumerate(words):
        places.setdefault(word, []).append(place)
        if "/" in word:
            places.setdefault(word.rsplit("/", 1)[1], []).append(place)
    return places


def _scan(text: str) -> tuple[Words, ...] | str:
    """The commands, or why the line is outside the subset."""
    if len(text) > MAX_CHARS:
        return f"it is longer than {MAX_CHARS} characters"
    commands: list[Words] = []
    words: list[str] = []
    pending = ""  # An operator that still needs a command on its right.
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            return _outside(text[at])
        kind, token = found.lastgroup, found.group()
        at = found.end()
        if kind == "word":
            if not words and (_ASSIGNMENT.match(token) or token in _RESERVED):
                return f"it begins a command with `{token[:40]}`"
            words.append("".join(p if p[0] not in "'\"" else p[1:-1] for p in _PIECE.findall(token)))
            continue
        if kind == "space":
            continue
        if words:
            commands.append(tuple(words))
            words, pending = [], ""
        elif kind == "op":
            return f"nothing stands before `{token}`"
        if kind == "op":
            pending = token if token != ";" else ""
    if words:
        commands.append(tuple(words))
    elif pending:
        return f"nothing stands after `{pending}`"
    return tuple(commands) or "it is empty"


def _outside(char: str) -> str:
    if char in _UNPARSED_CHARS:
        return f"it has {_UNPARSED_CHARS[char]}"
    return f"it has the character U+{ord(char):04X}"


@cache
def _language() -> Language:
    import tree_sitter_bash
    from tree_sitter import Language

    return Language(tree_sitter_bash.language())


def _grammar_reading(text: str) -> tuple[Words, ...] | None:
    """What tree-sitter reads: every node must be of a kind the subset has."""
    from tree_sitter import Parser

    root = Parser(_language()).parse(text.encode()).root_node
    if root.has_error:
        return None
    commands: list[Words] = []
    todo: list[Node] = [root]
    while todo:
        node = todo.pop()
        if node.type in ("program", "list", "pipeline"):
            todo.extend(reversed(node.children))
        elif node.type == "command":
            words = [_word(child) for child in node.children]
            if None in words:
                return None
            commands.append(tuple(word for word in words if word is not None))
        elif node.type not in ("&&", "||", ";", "|", "\n"):
            return None
    return tuple(commands)


def _word(node: Node) -> str | None:
    text = (node.text or b"").decode()
    kinds = [child.type for child in node.children]
    if node.type in ("word", "number") and not kinds:
        return text
    if node.type == "raw_string":
        return text[1:-1]
    if node.type == "string" and set(kinds) <= {'"', "string_content"}:
        return text[1:-1]
    if node.type in ("command_name", "concatenation"):
        parts = [_word(child) for child in node.children]
        return None if None in parts else "".join(part for part in parts if part is not None)
    return None
