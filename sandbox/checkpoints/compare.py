"""What differs between two checkpoints, without looking at anything live."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from sandbox.checkpoints.packs import Packs
from sandbox.checkpoints.tree import DIRECTORY, FILE, LINK, OPAQUE, SPARSE, WHITEOUT, Node, decode, top

_KINDS = {FILE: "file", SPARSE: "file", LINK: "symlink", DIRECTORY: "directory", WHITEOUT: "deleted below"}
TEXT_BYTES = 1 << 20
"""Larger files are named and not shown."""


@dataclass(frozen=True)
class Difference:
    path: str
    """Relative to the workspace; bytes that are no UTF-8 stand as surrogates."""
    kind: Literal["added", "modified", "deleted", "mode", "type"]
    before: Node | None
    after: Node | None

    @property
    def node(self) -> str:
        """What it is, or was."""
        one = self.after or self.before
        return "of your directory" if one is None else _KINDS.get(one.kind, "not kept")


def differences(packs: Packs, before: bytes, after: bytes) -> Iterator[Difference]:
    """Sorted by path within a directory. What only has another time is no difference."""
    yield from _trees(packs, top(packs, before).digest, top(packs, after).digest, "")


def same_files(packs: Packs, one: bytes, other: bytes) -> Iterator[str]:
    """Paths of the files that are the same in both, to the time and the mode."""
    yield from _same_files(packs, top(packs, one).digest, top(packs, other).digest, "")


def text_of(packs: Packs, node: Node | None) -> bytes | None:
    """The bytes of a file or link; nothing for what is not there, None for what is too large to show."""
    if node is None or node.kind in (DIRECTORY, WHITEOUT):
        return b""
    if node.kind not in (FILE, LINK) or node.size > TEXT_BYTES:
        return None
    return packs.read(node.digest)


def _same_files(packs: Packs, one: bytes, other: bytes, prefix: str) -> Iterator[str]:
    nodes = dict(decode(packs.read(one)))
    others = nodes if one == other else dict(decode(packs.read(other)))
    for name, node in nodes.items():
        twin = others.get(name)
        if twin is None or twin.kind != node.kind:
            continue
        if node.kind == DIRECTORY:
            yield from _same_files(packs, node.digest, twin.digest, f"{prefix}{name}/")
        elif node.kind in (FILE, SPARSE) and node == twin:
            yield prefix + name


def _trees(
    packs: Packs, before: bytes | None, after: bytes | None, prefix: str, *, opaque: bool = False
) -> Iterator[Difference]:
    """`opaque`: nothing of the user's directory shows through where it is now."""
    if before == after:
        return
    old = {} if before is None else dict(decode(packs.read(before)))
    new = {} if after is None else dict(decode(packs.read(after)))
    for name in sorted(old.keys() | new.keys()):
        was, now = old.get(name), new.get(name)
        if was is not None and was.kind == WHITEOUT and now is None:
            # What it hid is there again, or is hidden with all that stood beside it.
            if not opaque:
                yield Difference(prefix + name, "added", None, None)
        else:
            yield from _names(packs, was, now, prefix + name)


def _names(packs: Packs, old: Node | None, new: Node | None, path: str) -> Iterator[Difference]:
    inside = tuple(node.digest if node and node.kind == DIRECTORY else None for node in (old, new))
    if new is not None and new.kind == WHITEOUT and (old is None or old.kind != WHITEOUT):
        # Of an overlay: gone for the session, whether or not it had written there before.
        yield Difference(path, "deleted", old, None)
    elif old is None or new is None:
        # A directory with something in it is told by that.
        one = new or old
        if one is not None and not (one.kind == DIRECTORY and packs.length(one.digest)):
            yield Difference(path, "added" if old is None else "deleted", old, new)
    elif _KINDS.get(old.kind) != _KINDS.get(new.kind):
        yield Difference(path, "type", old, new)
    elif old.kind != DIRECTORY and (old.kind, old.digest) != (new.kind, new.digest):
        yield Difference(path, "modified", old, new)
    elif old.mode != new.mode:
        yield Difference(path, "mode", old, new)
    opaque = new is not None and bool(new.flags & OPAQUE)
    yield from _trees(packs, inside[0], inside[1], f"{path}/", opaque=opaque)
