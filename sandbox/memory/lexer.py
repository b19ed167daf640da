"""Shell text to words and operators."""

from __future__ import annotations

from sandbox.memory.syntax import Part, Unsupported, Word

OPERATORS = ("&&", "||", ";;", ">>", ">&", "<&", "<>", ">|", ";", "&", "|", "(", ")", "<", ">", "\n")
NAME = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_"

Token = str | Word
"""An operator, or a word."""


class Lexer:
    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def tokens(self) -> list[tuple[Token, bool]]:
        """Each token, and whether white space or another operator stood before it."""
        found: list[tuple[Token, bool]] = []
        while True:
            start = self.at
            while self.text.startswith((" ", "\t", "\\\n"), self.at):
                self.at += 2 if self.text[self.at] == "\\" else 1
            if self.text.startswith("#", self.at) and (self.at == 0 or self.text[self.at - 1] in " \t\n;&|("):
                while self.at < len(self.text) and self.text[self.at] != "\n":
                    self.at += 1
            if self.at >= len(self.text):
                return found
            if self.text.startswith("<<", self.at):
                raise Unsupported("here-documents")
            spaced = self.at > start or not found or isinstance(found[-1][0], str)
            operator = next((op for op in OPERATORS if self.text.startswith(op, self.at)), None)
            if operator is not None:
                self.at += len(operator)
                found.append((operator, spaced))
            else:
                found.append((self.word(" \t\n;&|()<>"), spaced))

    def word(self, stop: str, quoted: bool = False) -> Word:
        parts: list[Part] = []
        text = self.text
        while self.at < len(text) and text[self.at] not in stop:
            char = text[self.at]
            self.at += 1
            if char == "'" and not quoted:
                parts.append(Part("text", self.until("'"), True))
            elif char == '"':
                inner = self.word('"', True)
                self.expect('"')
                parts.extend(inner or (Part("text", "", True),))
            elif char == "\\":
                following = text[self.at : self.at + 1]
                self.at += 1
                if following == "\n":
                    continue
                keep = quoted and following not in '$`"\\'
                parts.append(Part("text", ("\\" if keep else "") + following, True))
            elif char == "$":
                parts.append(self.dollar(quoted))
            elif char == "`":
                parts.append(Part("command", self.until("`"), quoted))
            else:
                parts.append(Part("text", char, quoted))
        return tuple(merged(parts))

    def dollar(self, quoted: bool) -> Part:
        text = self.text
        if text.startswith("((", self.at):
            self.at += 1
            body = self.balanced()
            self.expect(")")
            return Part("arithmetic", body, quoted)
        if text.startswith("(", self.at):
            return Part("command", self.balanced(), quoted)
        if text.startswith("{", self.at):
            self.at += 1
            return self.braced(quoted)
        char = text[self.at : self.at + 1]
        if char and char in "?$!#@*0123456789-":
            self.at += 1
            return Part("variable", char, quoted)
        name = self.name()
        return Part("variable", name, quoted) if name else Part("text", "$", quoted)

    def braced(self, quoted: bool) -> Part:
        length = self.text.startswith("#", self.at) and not self.text.startswith("#}", self.at)
        self.at += length
        name = self.name()
        while self.text[self.at].isdigit() and (not name or name.isdigit()):
            name += self.text[self.at]
            self.at += 1
        if not name:
            name = self.text[self.at]
            self.at += 1
        operator = "length" if length else ""
        operand: Word = ()
        if not self.text.startswith("}", self.at):
            for candidate in (":-", ":+", ":=", "%%", "##", "-", "+", "=", "%", "#"):
                if self.text.startswith(candidate, self.at):
                    operator = candidate
                    break
            else:
                raise Unsupported(f"${{{name}{self.text[self.at]}")
            self.at += len(operator)
            operand = self.word("}", quoted)
        self.expect("}")
        return Part("variable", name, quoted, operator, operand)

    def name(self) -> str:
        start = self.at
        while self.at < len(self.text) and (
            self.text[self.at] in NAME or (self.at > start and self.text[self.at].isdigit())
        ):
            self.at += 1
        return self.text[start : self.at]

    def balanced(self) -> str:
        """The text between this parenthesis and its partner; quotes are skipped over."""
        start, depth = self.at + 1, 0
        while self.at < len(self.text):
            char = self.text[self.at]
            self.at += 1
            if char == "\\":
                self.at += 1
            elif char == "'":
                self.until("'")
            elif char == "(":
                depth += 1
            elif char == ")":
                depth -= 1
                if depth == 0:
                    return self.text[start : self.at - 1]
        raise Unsupported("unterminated $(")

    def until(self, end: str) -> str:
        stop = self.text.find(end, self.at)
        if stop < 0:
            raise Unsupported(f"unterminated {end}")
        found, self.at = self.text[self.at : stop], stop + 1
        return found

    def expect(self, char: str) -> None:
        if not self.text.startswith(char, self.at):
            raise Unsupported(f"unterminated quoted string, {char} missing")
        self.at += 1


def merged(parts: list[Part]) -> list[Part]:
    """Runs of characters of the same quoting as one part."""
    done: list[Part] = []
    for part in parts:
        if done and part.kind == done[-1].kind == "text" and part.quoted == done[-1].quoted:
            done[-1] = Part("text", done[-1].text + part.text, part.quoted)
        else:
            done.append(part)
    return done
