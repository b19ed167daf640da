"""What can go wrong with a policy: it cannot be read as one. Nothing starts on such an error."""

from __future__ import annotations

from pathlib import Path


class PolicyError(ValueError):
    """One line, `FILE:LINE: key: reason`; the parts are attributes. All is printable."""

    def __init__(self, file: str | Path, reason: str, *, line: int | None = None, key: str = "") -> None:
        self.file = str(file)
        self.line = line
        """Counted from 1; None where no line is at fault (the file is missing, or empty)."""
        self.key = key
        """Dotted, as in `limits.memory_mb` or `rules[2].when.path`."""
        self.reason = reason
        where = printable(self.file, 1000) + (f":{line}" if line else "")
        super().__init__(": ".join(part for part in (where, printable(key), printable(reason, 2000)) if part))


def printable(text: str, limit: int = 200) -> str:
    """The text with everything that could act on a terminal escaped, cut to about `limit` characters."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[:limit])
    return shown + ("…" if len(text) > limit else "")
