"""Words and operators to the tree of `syntax.py`."""

from __future__ import annotations

from typing import Literal

from sandbox.memory.lexer import NAME, Lexer, Token
from sandbox.memory.syntax import (
    Compound,
    Item,
    Part,
    Pipeline,
    Redirection,
    Script,
    Simple,
    Unsupported,
    Word,
)

REDIRECTIONS = frozenset({">>", ">&", "<&", "<>", ">|", "<", ">"})
KEYWORDS = "if then elif else fi while until do done for in case esac { } !"
RESERVED = frozenset(KEYWORDS.split())


class Parser:
    def __init__(self, text: str) -> None:
        self.tokens = Lexer(text).tokens()
        self.at = 0

    def parse(self) -> Script:
        script = self.script(())
        if self.at < len(self.tokens):
            raise Unsupported(f"unexpected {self.peek()!r}")
        return script

    def peek(self) -> Token | None:
        return self.tokens[self.at][0] if self.at < len(self.tokens) else None

    def plain(self) -> str | None:
        """The next word when it is bare text: a keyword has no quotes in it."""
        token = self.peek()
        if isinstance(token, tuple) and len(token) == 1 and token[0].kind == "text" and not token[0].quoted:
            return token[0].text
        return None

    def take(self, operator: str) -> bool:
        if self.peek() == operator:
            self.at += 1
            return True
        return False

    def keyword(self, *words: str) -> str:
        found = self.plain()
        if found not in words or found is None:
            raise Unsupported(f"expected {' or '.join(words)}, found {self.peek()!r}")
        self.at += 1
        return found

    def newlines(self) -> None:
        while self.take("\n"):
            pass

    def script(self, ends: tuple[str, ...]) -> Script:
        """Items up to one of the closing words or operators, which is left in place."""
        items: list[Item] = []
        while True:
            while self.take("\n") or self.take(";"):
                pass
            if self.peek() is None or self.peek() in (")", ";;") or self.plain() in ends:
                return tuple(items)
            first = self.pipeline()
            rest: list[tuple[str, Pipeline]] = []
            while (operator := self.peek()) in ("&&", "||"):
                self.at += 1
                self.newlines()
                rest.append((str(operator), self.pipeline()))
            background = self.take("&")
            items.append(Item(first, tuple(rest), background))
            if not background and self.peek() not in (None, ";", "\n", ")", ";;"):
                raise Unsupported(f"unexpected {self.peek()!r}")

    def pipeline(self) -> Pipeline:
        negated = self.plain() == "!"
        self.at += negated
        commands = [self.command()]
        while self.take("|"):
            self.newlines()
            commands.append(self.command())
        return Pipeline(tuple(commands), negated)

    def command(self) -> Simple | Compound:
        if self.take("("):
            body = self.script(())
            if not self.take(")"):
                raise Unsupported("unclosed (")
            return Compound("subshell", (body,), redirections=self.redirections())
        word = self.plain()
        if word == "{":
            self.at += 1
            body = self.script(("}",))
            self.keyword("}")
            return Compound("group", (body,), redirections=self.redirections())
        if word in ("while", "until"):
            self.at += 1
            condition = self.script(("do",))
            kind: Literal["while", "until"] = "while" if word == "while" else "until"
            return Compound(kind, (condition, self.loop_body()), redirections=self.redirections())
        if word == "for":
            return self.for_loop()
        if word == "if":
            return self.conditional()
        if word == "case":
            return self.case()
        if word in RESERVED:
            raise Unsupported(f"unexpected {word}")
        if word and self.tokens[self.at + 1 : self.at + 3] and self.is_function():
            self.at += 3
            self.newlines()
            return Compound("function", ((Item(Pipeline((self.command(),))),),), name=word)
        return self.simple()

    def is_function(self) -> bool:
        return [token for token, _ in self.tokens[self.at + 1 : self.at + 3]] == ["(", ")"]

    def loop_body(self) -> Script:
        self.keyword("do")
        body = self.script(("done",))
        self.keyword("done")
        return body

    def for_loop(self) -> Compound:
        self.at += 1
        name = self.plain() or ""
        self.at += 1
        words: list[Word] | None = None
        self.newlines()
        if self.plain() == "in":
            self.at += 1
            words = []
            while isinstance(token := self.peek(), tuple):
                words.append(token)
                self.at += 1
        while self.take(";") or self.take("\n"):
            pass
        body = self.loop_body()
        return Compound(
            "for", (body,), name, None if words is None else tuple(words), (), self.redirections()
        )

    def conditional(self) -> Compound:
        parts: list[Script] = []
        self.at += 1
        while True:
            parts.append(self.script(("then",)))
            self.keyword("then")
            parts.append(self.script(("elif", "else", "fi")))
            word = self.keyword("elif", "else", "fi")
            if word == "else":
                parts.append(self.script(("fi",)))
                self.keyword("fi")
            if word != "elif":
                return Compound("if", tuple(parts), redirections=self.redirections())

    def case(self) -> Compound:
        self.at += 1
        subject = self.word()
        self.newlines()
        self.keyword("in")
        patterns: list[tuple[Word, ...]] = []
        bodies: list[Script] = []
        while True:
            self.newlines()
            if self.plain() == "esac":
                self.at += 1
                redirections = self.redirections()
                return Compound("case", tuple(bodies), "", (subject,), tuple(patterns), redirections)
            self.take("(")
            choices = [self.word()]
            while self.take("|"):
                choices.append(self.word())
            if not self.take(")"):
                raise Unsupported("case pattern without )")
            patterns.append(tuple(choices))
            bodies.append(self.script(("esac",)))
            self.take(";;")

    def word(self) -> Word:
        token = self.peek()
        if not isinstance(token, tuple):
            raise Unsupported(f"expected a word, found {token!r}")
        self.at += 1
        return token

    def simple(self) -> Simple:
        assignments: list[tuple[str, Word]] = []
        words: list[Word] = []
        redirections: list[Redirection] = []
        while True:
            redirection = self.redirection()
            if redirection is not None:
                redirections.append(redirection)
                continue
            token = self.peek()
            if not isinstance(token, tuple):
                break
            self.at += 1
            assignment = None if words else split_assignment(token)
            if assignment is not None:
                assignments.append(assignment)
            else:
                words.append(token)
        if not (assignments or words or redirections):
            raise Unsupported(f"expected a command, found {self.peek()!r}")
        return Simple(tuple(assignments), tuple(words), tuple(redirections))

    def redirections(self) -> tuple[Redirection, ...]:
        found: list[Redirection] = []
        while (redirection := self.redirection()) is not None:
            found.append(redirection)
        return tuple(found)

    def redirection(self) -> Redirection | None:
        fd = None
        number = self.plain()
        following = self.tokens[self.at + 1] if self.at + 1 < len(self.tokens) else (None, True)
        if number is not None and number.isdigit() and following[0] in REDIRECTIONS and not following[1]:
            fd = int(number)
            self.at += 1
        operator = self.peek()
        if not isinstance(operator, str) or operator not in REDIRECTIONS:
            return None
        self.at += 1
        return Redirection((0 if operator[0] == "<" else 1) if fd is None else fd, operator, self.word())


def split_assignment(word: Word) -> tuple[str, Word] | None:
    """`NAME=value` as its two halves."""
    head = word[0]
    if head.kind != "text" or head.quoted or "=" not in head.text:
        return None
    name, _, value = head.text.partition("=")
    if not name or name[0] not in NAME or not all(char in NAME or char.isdigit() for char in name):
        return None
    return name, ((Part("text", value),) if value else ()) + word[1:]


def parse(text: str) -> Script:
    return Parser(text).parse()
