"""A live tree into objects: one status call for each name, one read for each file that may have changed.

What a name had at the last scan (inode, times, size, mode) tells that it was left alone, since nothing inside
the container can set a ctime back: such a file is not read again, and such a directory not listed again. What
is as young as the scan may change once more without that showing, so it is looked at anew the next time.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from operator import attrgetter, is_

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
_key: Callable[[os.stat_result], Key] = attrgetter(
    "st_ino", "st_ctime_ns", "st_mtime_ns", "st_size", "st_mode"
)
Leaf = tuple[Key | None, Node]
"""Without a key: to be read again."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A directory as the last scan found it."""

    node: Node
    listed: Key | None
    """The directory's own, from before it was listed. Without one it is listed again."""
    leaves: dict[str, Leaf]
    """All but directories, and directories that could not be entered."""
    below: dict[str, Seen]

    @property
    def count(self) -> int:
        """Files and links in it, at any depth."""
        return len(self.leaves) + sum(seen.count for seen in self.below.values())


_NEVER = Seen(_OMITTED, None, {}, {})


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


@dataclass(frozen=True, slots=True)
class _Names:
    """What one look at each name of a directory told."""

    untouched: dict[str, Leaf]
    touched: list[tuple[str, os.stat_result]]
    """New, or not as it was."""
    directories: Iterable[str]


@dataclass
class _Scan:
    writer: PackWriter
    overlay: bool
    young: int
    files: int = 0
    left_out: int = 0
    moved: bool = False
    _depth: int = field(default=0)

    def directory(self, here: int, before: Seen) -> Seen:
        """`before` itself where nothing in it was touched."""
        status = os.fstat(here)
        names = (self._known if before.listed == _key(status) else self._listed)(here, before)
        leaves, below, closed = names.untouched, dict[str, Seen](), dict[str, Leaf]()
        if names.touched:
            leaves = leaves | self._leaves(here, names.touched)
        for name in names.directories:
            seen = self._enter(here, name, before.below.get(name, _NEVER))
            if seen is None:
                closed[name] = (None, self._omitted())
            else:
                below[name] = seen
        if leaves is before.leaves and not closed and all(map(is_, below.values(), before.below.values())):
            return before
        leaves = leaves | closed
        same = self._same(before, leaves, below)
        node = Node(
            DIRECTORY,
            OPAQUE if self.overlay and is_opaque(here) else 0,
            stat.S_IMODE(status.st_mode) & 0o777,
            status.st_uid,
            status.st_gid,
            0,
            0,
            before.node.digest if same else self._stored(leaves, below),
        )
        return Seen(node, None if closed else self._aged(status), leaves, below)

    def _known(self, here: int, before: Seen) -> _Names:
        """Of a directory that holds the names it held before."""
        look, touched = os.stat, []
        try:
            for name, leaf in before.leaves.items():
                found = look(name, dir_fd=here, follow_symlinks=False)
                if leaf[0] != _key(found):
                    touched.append((name, found))
        except FileNotFoundError:
            self.moved = True
            return self._listed(here, before)
        if not touched:
            return _Names(before.leaves, touched, before.below)
        untouched = before.leaves.copy()
        for name, _ in touched:
            del untouched[name]
        return _Names(untouched, touched, before.below)

    def _listed(self, here: int, before: Seen) -> _Names:
        names = _Names({}, [], directories := [])
        with os.scandir(here) as listing:
            for item in listing:
                name = item.name
                try:
                    found = item.stat(follow_symlinks=False)
                except FileNotFoundError:
                    self.moved = True
                    continue
                leaf = before.leaves.get(name)
                if stat.S_ISDIR(found.st_mode):
                    directories.append(name)
                elif leaf is not None and leaf[0] == _key(found):
                    names.untouched[name] = leaf
                else:
                    names.touched.append((name, found))
        return names

    def _leaves(self, here: int, touched: list[tuple[str, os.stat_result]]) -> dict[str, Leaf]:
        made = ((name, self._leaf(here, name, found)) for name, found in touched)
        return {name: leaf for name, leaf in made if leaf is not None}

    def _same(self, before: Seen, leaves: dict[str, Leaf], below: dict[str, Seen]) -> bool:
        """Whether it holds what it held before; files and links that differ are counted."""
        differ = len(before.leaves.keys() - leaves.keys())
        for name, leaf in leaves.items():
            old = before.leaves.get(name)
            differ += old is None or old[1] != leaf[1]
        differ += sum(before.below[name].count for name in before.below.keys() - below.keys())
        self.files += differ
        return (
            before is not _NEVER
            and not differ
            and before.below.keys() == below.keys()
            and all(seen.node == before.below[name].node for name, seen in below.items())
        )

    def _stored(self, leaves: dict[str, Leaf], below: dict[str, Seen]) -> bytes:
        nodes = [(name, node) for name, (_, node) in leaves.items()]
        nodes += [(name, seen.node) for name, seen in below.items()]
        return self.writer.put(encode(nodes))

    def _enter(self, here: int, name: str, before: Seen) -> Seen | None:
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
            return self.directory(inner, before)
        finally:
            self._depth -= 1
            os.close(inner)

    def _leaf(self, here: int, name: str, found: os.stat_result) -> Leaf | None:
        """What a name that is no directory becomes; None for one that is gone by now."""
        try:
            if stat.S_ISREG(found.st_mode):
                return self._file(here, name, found)
            if stat.S_ISLNK(found.st_mode):
                target = os.fsencode(os.readlink(name, dir_fd=here))
                node = Node(LINK, 0, 0, found.st_uid, found.st_gid, 0, 0, self.writer.put(target))
                return self._aged(found), node
        except FileNotFoundError:
            self.moved = True
            return None
        except OSError as error:
            # A full disk on our side must not look like a file that cannot be read.
            if error.filename is None and not isinstance(error, content.TooScattered):
                raise
            return None, self._omitted()
        if self.overlay and stat.S_ISCHR(found.st_mode) and found.st_rdev == 0:
            return _key(found), _WHITEOUT
        return None, self._omitted()

    def _file(self, here: int, name: str, found: os.stat_result) -> Leaf:
        descriptor = os.open(name, beneath.READ_FILE, dir_fd=here)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
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
            beneath.modified_ns(status), digest,
        )  # fmt: skip
        if _key(after) != _key(found):
            self.moved = True
            return None, node
        return self._aged(after), node

    def _aged(self, status: os.stat_result) -> Key | None:
        """By what it is known again; None for what may change once more at the same time."""
        return None if status.st_ctime_ns >= self.young else _key(status)

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
    top = run.directory(tree, before or _NEVER)
    digest = writer.put(encode([(TOP, top.node)]))
    return Scanned(digest, top, run.files, run.left_out, run.moved)
