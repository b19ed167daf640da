"""Read a bash command line in a strict subset: plain words joined by `&&`, `||`, `;`, `|` and newlines.

Everything else is "unparsed": expansions, substitutions, redirections, assignments, here-documents,
background jobs, compound commands, comments, and also globs, braces and tildes (a file the guest named
`--output=x` becomes an option through `*`). Two readers that share no code must agree word for word, and a
doubt of either makes the line unparsed: a scanner of that subset, and tree-sitter's grammar, or, where
nothing is quoted, splitting at operators and blanks. This reading is a convenience and never a boundary.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
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
    r"""[ \t]*(?:((?:[A-Za-z0-9_./,:@%+=-]+|'[^'\n]*'|"[^"\\$`!\n]*")+)|(&&|\|\||[;|\n])|(.))""", re.DOTALL
)
"""A word, an operator, or what is neither: every character that is not a blank belongs to one of them."""
_PIECE = re.compile(r"""[^'"]+|'[^']*'|"[^"]*\"""")
_KEYWORDS = "if then else elif fi for while until do done case esac select in function time coproc"
_RESERVED = frozenset(_KEYWORDS.split())
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
    by_program: Mapping[str, Sequence[Words]]
    """The same by what they run, without its path; empty for an unparsed line."""
    why: str
    """What put it outside; empty otherwise."""
    text: str

    @cached_property
    def flat(self) -> bytes:
        """The text as `mentions` wants it: for refusals, not for consent."""
        return flat(self.text)


def parse(text: str) -> Parsed:
    """Never raises, whatever the text."""
    read = _scan(text)
    if isinstance(read, str):
        return Parsed(None, {}, read, text)
    second_reading = _grammar_reading if _UNSPLIT.search(text) else _split_reading
    if second_reading(text) != read:
        return Parsed(None, {}, "it has no single clear reading", text)
    by_program: dict[str, list[Words]] = {}
    for words in read:
        by_program.setdefault(words[0].rpartition("/")[2], []).append(words)
    return Parsed(read, by_program, "", text)


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
    for word, operator, other in _TOKEN.findall(text.rstrip(" \t")):
        if word:
            plain = _unquoted(word) if "'" in word or '"' in word else word
            if not words and (why := _no_program(word, plain)):
                return why
            words.append(plain)
        elif other:
            return _outside(other)
        elif words:
            commands.append(tuple(words))
            words, pending = [], operator
        elif operator != "\n":
            return f"nothing stands before `{operator}`"
    if words:
        commands.append(tuple(words))
    elif pending not in ("", ";", "\n"):
        return f"nothing stands after `{pending}`"
    if len(commands) > MAX_COMMANDS:
        return f"it has more than {MAX_COMMANDS} commands"
    if sum(map(len, commands)) > MAX_WORDS:
        return f"it has more than {MAX_WORDS} words"
    return tuple(commands) or "it is empty"


def _no_program(token: str, word: str) -> str:
    """Why a command's first word is not the name of a program; empty if it is."""
    # With `=` it may be an assignment, with `%` the name of a job (of `fg`, that is), quoted or not.
    if token in _RESERVED or "=" in word or "%" in word:
        return f"it begins a command with `{token[:40]}`"
    return ""


def _unquoted(token: str) -> str:
    return "".join(p if p[0] not in "'\"" else p[1:-1] for p in _PIECE.findall(token))


def _outside(char: str) -> str:
    if char in _UNPARSED_CHARS:
        return f"it has {_UNPARSED_CHARS[char]}"
    return f"it has the character U+{ord(char):04X}"


_UNSPLIT = re.compile(r"[^A-Za-z0-9_./,:@%+= \t\n;|&-]")
"""What may mean more than itself: in a line without it, nothing but operators and blanks ends a word."""
_OPERATOR = re.compile(r"&&|\|\||[;|\n]")


def _split_reading(text: str) -> tuple[Words, ...]:
    """What is left where nothing can be quoted or expanded; much quicker than the grammar."""
    return tuple([tuple(words) for part in _OPERATOR.split(text) if (words := part.split())])


@cache
def _parser() -> Parser:
    import tree_sitter_bash
    from tree_sitter import Language, Parser

    return Parser(Language(tree_sitter_bash.language()))


def _grammar_reading(text: str) -> tuple[Words, ...] | None:
    """What tree-sitter reads: every node must be of a kind the subset has."""
    try:
        raw = text.encode()
    except UnicodeEncodeError:
        return None  # Half of a surrogate pair, which is no text.
    root = _parser().parse(raw).root_node
    if root.has_error:
        return None
    commands: list[Words] = []
    todo = [root]
    while todo:
        node = todo.pop()
        kind = node.type
        if kind == "command":
            words = []
            for child in node.children:
                if (word := _word(child, raw)) is None:
                    return None
                words.append(word)
            commands.append(tuple(words))
        elif kind in _JOINING:
            todo += reversed(node.children)
        elif kind not in _OPERATORS:
            return None
    return tuple(commands)


def _word(node: Node, raw: bytes) -> str | None:
    kind = node.type
    if kind == "command_name":
        if node.child_count != 1:
            return None
        node = node.children[0]
        kind = node.type
    if kind in _PLAIN:
        return None if node.child_count else raw[node.start_byte : node.end_byte].decode()
    if kind == "concatenation":
        parts = [_word(child, raw) for child in node.children]
        return None if None in parts else "".join(part for part in parts if part is not None)
    if kind == "raw_string" or (kind == "string" and all(child.type in _STRING for child in node.children)):
        return raw[node.start_byte + 1 : node.end_byte - 1].decode()
    return None


# Kinds of nodes.
_JOINING = frozenset({"program", "list", "pipeline"})
_OPERATORS = frozenset({"&&", "||", ";", "|", "\n"})
_PLAIN = frozenset({"word", "number"})
_STRING = frozenset({'"', "string_content"})
