"""Backslash escapes, as `printf` and `tr` write them."""

from __future__ import annotations

import os
import re

ESCAPES = {
    "n": "\n",
    "t": "\t",
    "r": "\r",
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "v": "\v",
    "\\": "\\",
    '"': '"',
    "'": "'",
}


def unescape(text: str, octal: str = r"[0-7]{1,3}") -> str:
    """Backslash escapes; a byte above 127 travels as a surrogate, as in every name and argument."""

    def one(match: re.Match[str]) -> str:
        found = match[1]
        if found[0] in "01234567":
            return os.fsdecode(bytes([int(found, 8) & 0xFF]))
        return ESCAPES.get(found, "\\" + found)

    # Bytes joined to characters again: \303\251 is one é.
    return os.fsdecode(os.fsencode(re.sub(rf"\\({octal}|.)", one, text, flags=re.DOTALL)))
