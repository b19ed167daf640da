"""Tree objects: what one directory holds, by name, in a form whose bytes are the same for the same content.

A directory's record names the tree object of what it holds, so an unchanged part of a workspace is stored
once however many checkpoints have it, and one digest stands for all of a tree.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from sandbox.checkpoints.errors import Damaged
from sandbox.checkpoints.packs import Packs

FILE, SPARSE, LINK, DIRECTORY, WHITEOUT, OMITTED = range(6)
"""SPARSE: a file stored as its extents. WHITEOUT: in an overlay's upper layer, what hides a name below.
OMITTED: something was there that is not kept; going back leaves what stands at its name alone."""
OPAQUE = 1
"""Flag of an overlay's directory: nothing of the lower one shows through."""
NOTHING = b"\0" * 32
TOP = "."
"""The only name in the object of a whole checkpoint: the workspace itself, with its mode and owner."""

_HEAD = struct.Struct(">BBHIIqq32sH")


class Node(NamedTuple):
    """One name of a directory."""

    kind: int
    flags: int
    mode: int
    """Permission bits; nothing above 0777 is kept."""
    uid: int
    gid: int
    size: int
    """Bytes of a file as it says, holes included."""
    mtime_ns: int
    """Of a file; 0 for anything else."""
    digest: bytes
    """Of the content, the target, or the tree."""


def encode(nodes: Iterable[tuple[str, Node]]) -> bytes:
    """The object of a directory."""
    # What os.fsencode does, less its questions: a directory of thousands is written whole for one change.
    coding = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()
    named = sorted([(name.encode(*coding), node) for name, node in nodes])
    return b"".join([_HEAD.pack(*node, len(name)) + name for name, node in named])


def decode(data: bytes) -> Iterator[tuple[str, Node]]:
    """The names of a directory's object, sorted by their bytes. Damaged for what is none."""
    coding = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()
    at, end = 0, len(data)
    while at < end:
        try:
            *fields, length = _HEAD.unpack_from(data, at)
        except struct.error:
            raise Damaged("a tree object is cut short") from None
        at += _HEAD.size + length
        name = data[at - length : at]
        if not name or at > end or b"/" in name or b"\0" in name or name == b"..":
            raise Damaged("a tree object holds a name that is none")
        yield name.decode(*coding), Node._make(fields)


def walk(packs: Packs, digest: bytes, prefix: str = "") -> Iterator[tuple[str, Node]]:
    """Every path beneath a directory's object, each directory before what it holds."""
    for name, node in decode(packs.read(digest)):
        yield prefix + name, node
        if node.kind == DIRECTORY:
            yield from walk(packs, node.digest, f"{prefix}{name}/")


def top(packs: Packs, digest: bytes) -> Node:
    """The workspace's own node of a checkpoint."""
    named = list(decode(packs.read(digest)))
    if len(named) != 1 or named[0][0] != TOP or named[0][1].kind != DIRECTORY:
        raise Damaged("this is not the object of a checkpoint")
    return named[0][1]


def reachable(packs: Packs, digests: Iterable[bytes]) -> set[bytes]:
    """All objects that these checkpoints are made of."""
    # By what it is used as: a guest can write a file whose bytes are those of a tree object.
    seen: set[tuple[bytes, bool]] = set()
    left = [(digest, True) for digest in digests]
    while left:
        one = left.pop()
        if one in seen:
            continue
        seen.add(one)
        if one[1]:
            left += [
                (node.digest, node.kind == DIRECTORY)
                for _, node in decode(packs.read(one[0]))
                if node.kind not in (WHITEOUT, OMITTED)
            ]
    return {digest for digest, _ in seen}
