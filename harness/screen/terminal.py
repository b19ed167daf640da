"""Output of an interactive shell, made safe to pass to the user's own terminal.

A full-screen program needs cursor movement and colours, so `visible` cannot be used there. What can reach
beyond the window is taken out: OSC (titles, links, the clipboard), DCS, APC, PM and SOS strings, window
operations, device queries and mouse reporting, in their 7-bit and 8-bit forms.
"""

from __future__ import annotations

import codecs
import re

STRING_CHARS = 1 << 16
"""A string sequence longer than this is given up; what follows is text again."""
_CSI_KEPT = frozenset("ABCDEFGHIJKLMPSTXZ@`abdefghlmrsu")
"""Movement, erasing, insertion, scrolling, tabs, modes, colours, margins, and saving the cursor."""
_CSI = re.compile(r"([0-?]{0,64})([ -/]{0,4})([@-~])")
_CSI_PART = re.compile(r"[0-?]{0,64}[ -/]{0,4}")
_STRING_END = re.compile("\x07|\x9c|\x1b\\\\|[\x18\x1a]")
_MODES_REFUSED = re.compile(r"\?.*(?<!\d)(?:9|100[0-7]|1015|1016)(?!\d)")
"""Mouse and focus reporting: left on, they would type into the user's own shell afterwards."""
_ESC_KEPT = frozenset("78DEHM=>")
_CONTROLS_KEPT = frozenset("\n\r\t\b\a\x0e\x0f")


class Filter:
    """Feed bytes as they come; what is split between chunks is held until it is whole."""

    RESET = b"\x1b[?1049l\x1b[?2004l\x1b[?25h\x1b[r\x1b[0m\x1b(B"
    """Puts the terminal back after a program that did not: main screen, cursor, margins, colours."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""

    def feed(self, data: bytes) -> bytes:
        text, self._held = self._held + self._decoder.decode(data), ""
        kept: list[str] = []
        at = 0
        while at < len(text):
            char = text[at]
            if char == "\x1b" or char in "\x90\x98\x9b\x9d\x9e\x9f":
                end, passed = self._sequence(text, at)
                if end is None:
                    self._held = text[at:]
                    break
                kept.append(passed)
                at = end
                continue
            if (char >= " " and not "\x7f" <= char <= "\x9f") or char in _CONTROLS_KEPT:
                kept.append(char)
            at += 1
        return "".join(kept).encode()

    def _sequence(self, text: str, at: int) -> tuple[int | None, str]:
        """Where the sequence at `at` ends (None: not yet) and what of it may pass."""
        if text[at] == "\x1b":
            if at + 1 >= len(text):
                return None, ""
            kind, body = text[at + 1], at + 2
        else:
            kind, body = chr(ord(text[at]) - 0x40), at + 1
        if kind == "[":
            return self._control(text, body)
        if kind in "]PX^_":
            return self._string(text, body)
        if kind in "()*+":  # character set: line drawing is wanted, and it takes one more character
            return (
                (None, "")
                if body >= len(text)
                else (body + 1, f"\x1b{kind}{text[body]}" if text[body] in "0B" else "")
            )
        return body, f"\x1b{kind}" if kind in _ESC_KEPT else ""

    def _control(self, text: str, body: int) -> tuple[int | None, str]:
        found = _CSI.match(text, body)
        if found is None:
            return (None, "") if _CSI_PART.fullmatch(text, body) else (body, "")
        parameters, intermediate, final = found.groups()
        cursor_shape = intermediate == " " and final == "q"
        plain = not intermediate and final in _CSI_KEPT and not parameters.startswith((">", "<", "="))
        refused = final in "hl" and _MODES_REFUSED.match(parameters)
        passed = cursor_shape or (plain and not refused)
        return found.end(), f"\x1b[{found.group()}" if passed else ""

    def _string(self, text: str, body: int) -> tuple[int | None, str]:
        found = _STRING_END.search(text, body)
        if found is not None:
            return found.end(), ""
        return (len(text), "") if len(text) - body > STRING_CHARS else (None, "")
