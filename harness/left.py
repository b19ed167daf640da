"""What is left to review of a session, once a part of its changes was applied; kept for `ps`.

To compare the trees of every session that is listed would take too long, so who applies counts once. The
journal says how many there were at the end; this says how many there are since, as long as nobody has gone on
with the session.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from harness.journal.record import FILE as JOURNAL

FILE = "left.json"


def note(directory: Path, changes: int) -> None:
    """So many are left. The session's lock is held."""
    temporary = directory / f"{FILE}.new"
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:
        json.dump({"changes": changes, "journal_bytes": _journal_bytes(directory)}, file)
    temporary.replace(directory / FILE)


def noted(directory: Path) -> int | None:
    """How many were left; None where nothing was applied since the session ended.

    A journal only grows: where it has another length than then, the session went on and counted again.
    """
    try:
        told = json.loads((directory / FILE).read_bytes())
        return int(told["changes"]) if told["journal_bytes"] == _journal_bytes(directory) else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _journal_bytes(directory: Path) -> int:
    return (directory / JOURNAL).stat().st_size
