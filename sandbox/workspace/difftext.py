"""Unified diffs of a review, bounded, and truthful when they are cut: what is left out is counted, never
hidden.

Bytes of the guest come out as text with undecodable bytes escaped; control characters stay in, since only the
screen knows what it can show, and escapes them.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from sandbox.workspace import beneath
from sandbox.workspace.choice import selected
from sandbox.workspace.compare import changes
from sandbox.workspace.quota import opened
from sandbox.workspace.review import Change, Review

__all__ = ["diff_text", "selected", "unified"]

_FILE_BYTES = 1 << 20
"""Larger files are summarised."""
_LINE_CHARS = 2000
_COMPARED = 4_000_000
"""Lines before times lines after, in the part that differs, up to which a smallest difference is looked for.
"""
_CONTEXT = 3
_TOTAL_CHARS = 32 << 20
"""After this much, changes are named and not shown."""


def diff_text(
    session_dir: Path, paths: Sequence[str] | None = None, *, review: Review | None = None
) -> list[str]:
    """Lines of a unified diff from the user's directory as it is to the session's copy.

    All changes in the order of the review, or those at or beneath `paths`. With `review` the tree is not
    compared again: its changes are shown, with the content that they have by now. The lines come at once, so
    that a pager left open does not hold the session's storage.
    """
    if review is None:
        review = changes(session_dir)
    lines: list[str] = []
    shown = 0
    with opened(session_dir) as tree, beneath.root(tree) as copy, beneath.root(review.source) as source:
        for change in selected(review, paths):
            if shown > _TOTAL_CHARS:
                lines += [
                    *_names(change),
                    f"# not shown: the diff is {shown >> 20} MB already, ask for this path alone",
                ]
                continue
            part = list(_change(change, copy, source))
            shown += sum(map(len, part))
            lines += part
    return lines


def line_counts(session_dir: Path, review: Review) -> dict[str, tuple[int, int]]:
    """Lines added and removed, by path; a path whose text cannot be shown has none."""
    counts: dict[str, tuple[int, int]] = {}
    with opened(session_dir) as tree, beneath.root(tree) as copy, beneath.root(review.source) as source:
        for change in review.changes:
            hunks = list(_change(change, copy, source))[2:]
            if change.node == "file" and (not hunks or any(line.startswith("@@") for line in hunks)):
                signs = [line[0] for line in hunks]
                counts[change.path] = (signs.count("+"), signs.count("-"))
    return counts


def _names(change: Change) -> list[str]:
    name = os.fsencode(change.path).decode(errors="backslashreplace")
    before = "/dev/null" if change.yours is None else f"a/{name}"
    after = "/dev/null" if change.seen is None else f"b/{name}"
    return [f"--- {before}", f"+++ {after}"]


def _change(change: Change, copy: int, source: int) -> Iterator[str]:
    yield from _names(change)
    if change.blocked:
        yield f"# not applied: {change.blocked}"
        return
    if change.conflict:
        yield f"# conflict: {change.conflict}"
    if change.kind == "mode":
        yield f"# {'becomes' if change.executable else 'is no longer'} executable"
        return
    if change.node != "file":
        yield f"# {change.node} {change.kind}"
        return
    if change.executable and (change.yours is None or not change.yours[0] & 0o100):
        yield "# becomes executable"
    try:
        before = _read(source, change.path, there=change.yours is not None)
        after = _read(copy, change.path, there=change.seen is not None)
    except beneath.TooLarge:
        yield f"# too large to show: {change.size:,} bytes now"
        return
    except OSError as error:
        yield f"# cannot be shown: {error.strerror}"
        return
    if b"\0" in before or b"\0" in after:
        yield f"# binary: {len(before):,} bytes become {len(after):,}"
        return
    yield from unified(before, after)


def _read(top: int, path: str, *, there: bool) -> bytes:
    if not there:
        return b""
    with beneath.parent_of(top, path) as (parent, name):
        return beneath.read_regular(parent, name, _FILE_BYTES)[0]


def unified(before: bytes, after: bytes) -> Iterator[str]:
    """Hunks of a unified diff. Too different to compare line by line: all old lines, then all new ones."""
    old, new = _lines(before), _lines(after)
    for group in _grouped(_operations(old, new)):
        first, last = group[0], group[-1]
        yield f"@@ -{_range(first[1], last[2])} +{_range(first[3], last[4])} @@"
        for tag, i1, i2, j1, j2 in group:
            if tag == "equal":
                yield from _shown(" ", old[i1:i2])
                continue
            yield from _shown("-", old[i1:i2])
            yield from _shown("+", new[j1:j2])


_Operation = tuple[str, int, int, int, int]


def _operations(old: list[bytes], new: list[bytes]) -> list[_Operation]:
    """Like SequenceMatcher.get_opcodes, after taking off what both begin and end with."""
    shortest = min(len(old), len(new))
    head = next((i for i in range(shortest) if old[i] != new[i]), shortest)
    most = shortest - head
    tail = next((i for i in range(most) if old[-1 - i] != new[-1 - i]), most)
    middle_old, middle_new = old[head : len(old) - tail], new[head : len(new) - tail]
    operations: list[_Operation] = [("equal", 0, head, 0, head)] if head else []
    if len(middle_old) * len(middle_new) > _COMPARED:
        operations.append(("replace", head, len(old) - tail, head, len(new) - tail))
    else:
        matcher = difflib.SequenceMatcher(None, middle_old, middle_new)
        operations += [
            (tag, i1 + head, i2 + head, j1 + head, j2 + head) for tag, i1, i2, j1, j2 in matcher.get_opcodes()
        ]
    if tail:
        operations.append(("equal", len(old) - tail, len(old), len(new) - tail, len(new)))
    return operations


def _grouped(operations: list[_Operation]) -> Iterator[list[_Operation]]:
    """Operations in hunks with a few lines of context, far-apart ones in hunks of their own."""
    group: list[_Operation] = []
    for number, (tag, i1, i2, j1, j2) in enumerate(operations):
        if tag != "equal":
            group.append((tag, i1, i2, j1, j2))
            continue
        leading = min(_CONTEXT, i2 - i1) if group else 0
        trailing = min(_CONTEXT, i2 - i1) if number + 1 < len(operations) else 0
        if group and leading + trailing >= i2 - i1 and trailing:
            group.append((tag, i1, i2, j1, j2))
            continue
        if group:
            yield [*group, (tag, i1, i1 + leading, j1, j1 + leading)]
        group = [(tag, i2 - trailing, i2, j2 - trailing, j2)] if trailing else []
    if any(tag != "equal" for tag, *_ in group):
        yield group


def _range(start: int, stop: int) -> str:
    length = stop - start
    return f"{start + 1 if length else start},{length}"


def _lines(content: bytes) -> list[bytes]:
    """Lines with their newlines, so that a missing last one is a difference. Only \\n ends a line."""
    lines = content.split(b"\n")
    last = lines.pop()
    return [line + b"\n" for line in lines] + ([last] if last else [])


def _shown(sign: str, lines: list[bytes]) -> Iterator[str]:
    for line in lines:
        text = line.decode(errors="backslashreplace")
        body = text.removesuffix("\n")
        if len(body) > _LINE_CHARS:
            body = f"{body[:_LINE_CHARS]}… ({len(body) - _LINE_CHARS:,} more characters)"
        yield sign + body
        if not text.endswith("\n"):
            yield "\\ No newline at end of file"
