"""A live tree into objects: one status call for each name, one read for each file that may have changed.

What a file had at the last scan (inode, times, size, mode) tells that it was left alone, since nothing inside
the container can set a ctime back. A file whose ctime is as young as the scan may change again without that
showing, so it is read once more the next time.
"""

from __future__ import annotations

import os
import stat
import time
from dataclasses import dataclass, field

from sandbox.checkpoints import content
from sandbox.checkpoints.packs import PackWriter
from sandbox.checkpoints.tree import (
    DIRECTORY,
    FILE,
    LINK,
    NOTHING,
    OMITTED,
    OPAQUE,
    SPARSE,
    TOP,
    WHITEOUT,
    Node,
    encode,
)
from sandbox.workspace import beneath
from sandbox.workspace.scan import is_opaque

_YOUNG_NS = 50_000_000
"""A clock tick of the kernel, and much more: what is older than this got a new ctime if it was written to."""
_MAPPED_NS = 60_000_000_000
"""The same while something may write through memory that was mapped, of which ctime tells only once."""
_OMITTED = Node(OMITTED, 0, 0, 0, 0, 0, 0, NOTHING)
_WHITEOUT = Node(WHITEOUT, 0, 0, 0, 0, 0, 0, NOTHING)

Key = tuple[int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class Seen:
    """A directory as the last scan found it."""

    node: Node
    leaves: dict[str, tuple[Key | None, Node]]
    """All but directories. Without a key: to be read again."""
    below: dict[str, Seen]

    @property
    def count(self) -> int:
        """Files and links in it, at any depth."""
        return len(self.leaves) + sum(seen.count for seen in self.below.values())


@dataclass
class Scanned:
    """What came of a scan."""

    digest: bytes
    top: Seen
    files: int
    """Files and links that are new, differ or are gone since the scan before."""
    left_out: int
    """Names of what is not kept: special files, what could not be read, what lies too deep."""
    moved: bool
    """Something changed while it was read."""


@dataclass
class _Scan:
    writer: PackWriter
    overlay: bool
    young: int
    files: int = 0
    left_out: int = 0
    moved: bool = False
    _depth: int = field(default=0)

    def directory(self, here: int, status: os.stat_result, before: Seen | None) -> Seen:
        known = before.leaves if before is not None else {}
        known_below = before.below if before is not None else {}
        leaves: dict[str, tuple[Key | None, Node]] = {}
        below: dict[str, Seen] = {}
        entering: list[tuple[str, os.stat_result]] = []
        same = True
        with os.scandir(here) as listing:
            for item in listing:
                name = item.name
                try:
                    found = item.stat(follow_symlinks=False)
                except FileNotFoundError:
                    self.moved = True
                    continue
                if stat.S_ISDIR(found.st_mode):
                    entering.append((name, found))
                    continue
                key = (found.st_ino, found.st_ctime_ns, found.st_mtime_ns, found.st_size, found.st_mode)
                old = known.get(name)
                if old is not None and old[0] == key:
                    leaves[name] = old
                    continue
                leaf = self._leaf(here, name, found, key)
                if leaf is None:
                    continue
                leaves[name] = leaf
                if old is None or old[1] != leaf[1]:
                    same = False
                    self.files += 1
        for name, found in entering:
            old_below = known_below.get(name)
            seen = self._enter(here, name, found, old_below)
            if seen is None:
                leaves[name] = (None, self._omitted())
                same = same and name in known and known[name][1] == _OMITTED
                continue
            below[name] = seen
            same = same and old_below is not None and old_below.node == seen.node
        if gone := known.keys() - leaves.keys():
            same = False
            self.files += len(gone)
        for name in known_below.keys() - below.keys():
            same = False
            self.files += known_below[name].count
        digest = before.node.digest if same and before is not None else self._stored(leaves, below)
        flags = OPAQUE if self.overlay and is_opaque(here) else 0
        node = Node(
            DIRECTORY, flags, stat.S_IMODE(status.st_mode) & 0o777, status.st_uid, status.st_gid, 0, 0, digest
        )
        return Seen(node, leaves, below)

    def _stored(self, leaves: dict[str, tuple[Key | None, Node]], below: dict[str, Seen]) -> bytes:
        nodes = [(name, node) for name, (_, node) in leaves.items()]
        nodes += [(name, seen.node) for name, seen in below.items()]
        return self.writer.put(encode(nodes))

    def _enter(self, here: int, name: str, found: os.stat_result, before: Seen | None) -> Seen | None:
        """A directory below; None for one that lies too deep, is closed, or was swapped under our hands."""
        if self._depth >= beneath.MAX_DEPTH:
            return None
        try:
            inner = beneath.enter(here, name)
        except OSError:
            self.moved = True
            return None
        self._depth += 1
        try:
            return self.directory(inner, os.fstat(inner), before)
        finally:
            self._depth -= 1
            os.close(inner)

    def _leaf(self, here: int, name: str, found: os.stat_result, key: Key) -> tuple[Key | None, Node] | None:
        """What a name that is no directory becomes; None for one that is gone by now."""
        try:
            if stat.S_ISREG(found.st_mode):
                return self._file(here, name, found, key)
            if stat.S_ISLNK(found.st_mode):
                target = os.fsencode(os.readlink(name, dir_fd=here))
                node = Node(LINK, 0, 0, found.st_uid, found.st_gid, 0, 0, self.writer.put(target))
                return (None if found.st_ctime_ns >= self.young else key), node
        except FileNotFoundError:
            self.moved = True
            return None
        except OSError as error:
            # A full disk on our side must not look like a file that cannot be read.
            if error.filename is None and not isinstance(error, content.TooScattered):
                raise
            return None, self._omitted()
        if self.overlay and stat.S_ISCHR(found.st_mode) and found.st_rdev == 0:
            return key, _WHITEOUT
        return None, self._omitted()

    def _file(self, here: int, name: str, found: os.stat_result, key: Key) -> tuple[Key | None, Node]:
        descriptor = os.open(name, beneath.READ_FILE, dir_fd=here)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_ino != found.st_ino:
                self.moved = True
                return None, self._omitted()
            kind, digest, size = FILE, NOTHING, status.st_size
            if content.is_sparse(status):
                kind, digest = SPARSE, self.writer.stream(content.extents(descriptor, size))
            elif size > content.WHOLE_BYTES:
                digest = self.writer.stream(content.plain(descriptor, size))
            else:
                data = os.read(descriptor, size) if size else b""
                digest, size = self.writer.put(data), len(data)
            after = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        node = Node(
            kind, 0, stat.S_IMODE(status.st_mode) & 0o777, status.st_uid, status.st_gid, size,
            status.st_mtime_ns, digest,
        )  # fmt: skip
        now = (after.st_ino, after.st_ctime_ns, after.st_mtime_ns, after.st_size, after.st_mode)
        if now != key:
            self.moved = True
            return None, node
        return (None if after.st_ctime_ns >= self.young else key), node

    def _omitted(self) -> Node:
        self.left_out += 1
        return _OMITTED


def scan(
    tree: int, writer: PackWriter, before: Seen | None, *, overlay: bool, unsettled: bool = False
) -> Scanned:
    """The tree under this open directory, written where it is new. `unsettled`: something may write to it.

    TooMuch when it does not fit, OSError when it cannot be stored; then `before` stays what is known.
    """
    young = time.time_ns() - (_MAPPED_NS if unsettled else _YOUNG_NS)
    run = _Scan(writer, overlay, young)
    top = run.directory(tree, os.fstat(tree), before)
    digest = writer.put(encode([(TOP, top.node)]))
    return Scanned(digest, top, run.files, run.left_out, run.moved)
