"""Patches: what lies between two checkpoints as text, bounded, every name and line of the guest's as data."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from harness.visible import visible
from sandbox.checkpoints.compare import Difference, text_of
from sandbox.checkpoints.errors import Damaged
from sandbox.checkpoints.packs import Packs
from sandbox.workspace.difftext import unified


def shown(path: str) -> str:
    """A path with every character of it printable."""
    return visible(os.fsencode(path).decode(errors="backslashreplace"))


def hunks(packs: Packs, one: Difference) -> Iterator[str]:
    """A unified diff of one difference; what cannot be shown as text is said to be so."""
    yield f"--- {'/dev/null' if one.before is None else shown(one.path)}"
    yield f"+++ {'/dev/null' if one.after is None else shown(one.path)}"
    if one.before is not None and one.after is not None and one.before.mode != one.after.mode:
        yield f"# mode {one.before.mode:04o} becomes {one.after.mode:04o}"
    before, after = text_of(packs, one.before), text_of(packs, one.after)
    if before is None or after is None:
        yield "# too large to show"
    elif b"\0" in before or b"\0" in after:
        yield f"# binary: {len(before):,} bytes become {len(after):,}"
    elif one.kind != "mode":
        yield from unified(before, after)


def _text(packs: Packs, one: Difference) -> str:
    try:
        return "\n".join(visible(line, multiline=True) for line in hunks(packs, one))
    except Damaged:
        return f"# {shown(one.path)} cannot be shown: what was stored of it is damaged"


def patch(packs: Packs, found: Iterable[Difference], most: int) -> tuple[str, int]:
    """The hunks of as many whole differences as fit into `most` characters, and how many were left out."""
    parts: list[str] = []
    left_out = 0
    for one in found:
        # Past the first that does not fit nothing is compared any more.
        text = "" if left_out else _text(packs, one)
        if left_out or sum(map(len, parts)) + len(text) > most:
            left_out += 1
        else:
            parts.append(text)
    return "\n".join(parts), left_out
