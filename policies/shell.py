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
from functools import cache, cached_property, lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tree_sitter import Node, Parser

Words = tuple[str, ...]

MAX_CHARS = 16 << 10
MAX_COMMANDS = 200
MAX_WORDS = 2000
"""Lines with more are unparsed: no plain command line needs it, and the time to decide stays bounded."""

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
    def flat(self) -> bytes:
        """The text as `mentions` wants it: for refusals, not for consent."""
        return flat(self.text)

    @cached_property
    def heads(self) -> tuple[str, ...]:
        """The program of each command, without a path; empty for an unparsed line."""
        return tuple(words[0].rsplit("/", 1)[-1] for words in self.commands or ())


def parse(text: str) -> Parsed:
    """Never raises, whatever the text."""
    read = _scan(text)
    if isinstance(read, str):
        return Parsed(None, read, text)
    if _grammar_reading(text) != read:
        return Parsed(None, "it has no single clear reading", text)
    return Parsed(read, "", text)


def bare(text: str) -> str:
    """What quoting hides is in plain sight here: `'r'm` and `\\rm` are `rm`."""
    return text.replace("\\\n", "").replace('"', "").replace("'", "").replace("\\", "")


_SEPARATORS = b"\t\n\x0b\x0c\r;|&()<>$`{}=,!*?[]~#/\0" + bytes(range(0x80, 0x100))
_TO_SPACES = bytes(ord(" ") if byte in _SEPARATORS else byte for byte in range(256))


def flat(text: str) -> bytes:
    """The text with a space for everything that separates words anywhere in the shell, inside quotes too, and
    for slashes: a path is also the name it ends in.
    """
    raw = text.encode(errors="replace").replace(b"\\\n", b"")
    return b" " + raw.translate(_TO_SPACES, b"\"'\\") + b" "


def mentions(words: tuple[bytes, ...], flat_text: bytes) -> bool:
    """Whether these words (see `flat_words`) stand in a flat text in this order, with anything between them.

    One search a word, none of which a text can make slow.
    """
    at = 0
    for word in words:
        found = flat_text.find(word, at)
        if found < 0:
            return False
        at = found + len(word) - 1  # The space after one word is that before the next.
    return True


@lru_cache(maxsize=1024)
def flat_words(words: str) -> tuple[bytes, ...]:
    return tuple(b" " + word + b" " for word in flat(words).split())


def _scan(text: str) -> tuple[Words, ...] | str:
    """The commands, or why the line is outside the subset."""
    if len(text) > MAX_CHARS:
        return f"it is longer than {MAX_CHARS} characters"
    commands: list[Words] = []
    words: list[str] = []
    pending = ""  # An operator that still needs a command on its right.
    at = count = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            return _outside(text[at])
        kind, token = found.lastgroup, found.group()
        at = found.end()
        if kind == "word":
            if not words and (_ASSIGNMENT.match(token) or token in _RESERVED):
                return f"it begins a command with `{token[:40]}`"
            word = _unquoted(token) if "'" in token or '"' in token else token
            if not words and word.startswith("%"):
                return "`%` begins the name of a job"  # Of `fg`, that is, quoted or not.
            words.append(word)
            count += 1
            if count > MAX_WORDS:
                return f"it has more than {MAX_WORDS} words"
            continue
        if kind == "space":
            continue
        if words:
            commands.append(tuple(words))
            if len(commands) > MAX_COMMANDS:
                return f"it has more than {MAX_COMMANDS} commands"
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


def _unquoted(token: str) -> str:
    return "".join(p if p[0] not in "'\"" else p[1:-1] for p in _PIECE.findall(token))


def _outside(char: str) -> str:
    if char in _UNPARSED_CHARS:
        return f"it has {_UNPARSED_CHARS[char]}"
    return f"it has the character U+{ord(char):04X}"


@cache
def _parser() -> Parser:
    import tree_sitter_bash
    from tree_sitter import Language, Parser

    return Parser(Language(tree_sitter_bash.language()))


def _grammar_reading(text: str) -> tuple[Words, ...] | None:
    """What tree-sitter reads: every node must be of a kind the subset has."""
    root = _parser().parse(text.encode()).root_node
    if root.has_error:
        return None
    commands: list[Words] = []
    todo: list[Node] = [root]
    while todo:
        node = todo.pop()
        kind = node.type
        if kind == "command":
            words = []
            for child in node.children:
                if (word := _word(child)) is None:
                    return None
                words.append(word)
            commands.append(tuple(words))
        elif kind in ("program", "list", "pipeline"):
            todo.extend(reversed(node.children))
        elif kind not in ("&&", "||", ";", "|", "\n"):
            return None
    return tuple(commands)


def _word(node: Node) -> str | None:
    kind = node.type
    if kind in ("word", "number"):
        return None if node.child_count else (node.text or b"").decode()
    if kind == "raw_string":
        return (node.text or b"").decode()[1:-1]
    if kind == "string" and all(child.type in ('"', "string_content") for child in node.children):
        return (node.text or b"").decode()[1:-1]
    if kind in ("command_name", "concatenation"):
        parts = [_word(child) for child in node.children]
        return None if None in parts else "".join(part for part in parts if part is not None)
    return None
