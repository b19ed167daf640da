"""A tree made exactly what a checkpoint says, while nothing runs in it.

First everything goes that is not as it was, which also makes room; then what is missing is made. What is as
it was is not touched. A run that was interrupted is finished by the next one. The tree is still the guest's
work: all of it happens beneath open directories, links are not followed, and nothing is written through a
name that was there before.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sandbox.checkpoints import content, tree
from sandbox.checkpoints.packs import Packs
from sandbox.checkpoints.tree import (
    DIRECTORY,
    FILE,
    LINK,
    OMITTED,
    OPAQUE,
    SPARSE,
    WHITEOUT,
    Node,
    decode,
)
from sandbox.workspace import beneath
from sandbox.workspace.copyfile import umask
from sandbox.workspace.scan import OPAQUE_MARK, is_opaque

Made = Callable[[str, os.stat_result], None]


class Restore:
    """One restore of a tree; `removed` and `made` say what it took."""

    def __init__(self, packs: Packs, on_file: Made | None = None) -> None:
        self.removed = 0
        """Names that were taken away because they were not there, or were something else."""
        self.made = 0
        """Files and links written."""
        self._packs = packs
        self._on_file = on_file
        self._owner = os.geteuid() == 0
        self._umask = umask()

    def run(self, top: int, checkpoint: bytes) -> None:
        """Damaged when the store is; OSError when the tree cannot be written, and then it is half done."""
        node = tree.top(self._packs, checkpoint)
        with _writable(top):
            self._clear(top, node.digest)
            self._fill(top, node.digest, "", new=False)
        self._dress(top, node)

    def _clear(self, here: int, digest: bytes) -> None:
        wanted = dict(decode(self._packs.read(digest)))
        with os.scandir(here) as listing:
            found = [item.name for item in listing]
        for name in found:
            node = wanted.get(name)
            if node is not None and node.kind == OMITTED:
                continue
            status = beneath.look(here, name)
            if status is None:
                continue
            if node is None or not self._is(here, name, status, node):
                beneath.remove_tree(here, name)
                self.removed += 1
            elif node.kind == DIRECTORY:
                with _entered(here, name) as below:
                    self._clear(below, node.digest)

    def _is(self, here: int, name: str, status: os.stat_result, node: Node) -> bool:
        """Whether what stands there may stay; a directory's mode and owner are mended later."""
        if node.kind == DIRECTORY:
            return stat.S_ISDIR(status.st_mode)
        if self._owner and node.kind != WHITEOUT and (status.st_uid, status.st_gid) != (node.uid, node.gid):
            return False
        if node.kind == LINK:
            return stat.S_ISLNK(status.st_mode) and (
                os.fsencode(os.readlink(name, dir_fd=here)) == self._packs.read(node.digest)
            )
        if node.kind == WHITEOUT:
            return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0
        return (
            stat.S_ISREG(status.st_mode)
            and status.st_nlink == 1
            and stat.S_IMODE(status.st_mode) == node.mode
            and status.st_size == node.size
            and status.st_mtime_ns == node.mtime_ns
            and self._holds(here, name, node)
        )

    def _holds(self, here: int, name: str, node: Node) -> bool:
        try:
            descriptor, status = beneath.open_regular(here, name)
        except PermissionError:
            return False
        try:
            if content.is_sparse(status) != (node.kind == SPARSE):
                return False
            parts = content.extents if node.kind == SPARSE else content.plain
            return self._packs.same(node.digest, parts(descriptor, status.st_size))
        except content.TooScattered:
            return False
        finally:
            os.close(descriptor)

    def _fill(self, here: int, digest: bytes, prefix: str, *, new: bool) -> None:
        """`new`: made here, so that nothing stands in it."""
        for name, node in decode(self._packs.read(digest)):
            if node.kind == OMITTED:
                continue
            there = not new and beneath.look(here, name) is not None
            if node.kind == DIRECTORY:
                if not there:
                    os.mkdir(name, 0o700, dir_fd=here)
                with _entered(here, name) as below:
                    self._fill(below, node.digest, f"{prefix}{name}/", new=not there)
                    self._dress(below, node)
            elif not there:
                self._make(here, name, node, prefix + name)

    def _make(self, here: int, name: str, node: Node, path: str) -> None:
        if node.kind in (FILE, SPARSE):
            self._file(here, name, node, path)
        elif node.kind == LINK:
            os.symlink(self._packs.read(node.digest), os.fsencode(name), dir_fd=here)
            if self._owner:
                os.chown(name, node.uid, node.gid, dir_fd=here, follow_symlinks=False)
        else:
            os.mknod(name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=here)
        self.made += 1

    def _file(self, here: int, name: str, node: Node, path: str) -> None:
        mode = node.mode & 0o777
        target = os.open(name, beneath.NEW_FILE, mode, dir_fd=here)
        try:
            if node.kind == SPARSE:
                content.write_extents(self._packs.chunks(node.digest), target)
            elif node.size > content.WHOLE_BYTES:
                content.write_plain(self._packs.chunks(node.digest), target)
            elif data := self._packs.read(node.digest):
                beneath.write_all(target, data)
            if self._owner:
                os.fchown(target, node.uid, node.gid)
            if mode & self._umask:
                os.fchmod(target, mode)
            os.utime(target, ns=(node.mtime_ns, node.mtime_ns))
            if self._on_file is not None:
                self._on_file(path, os.fstat(target))
        except BaseException:
            # What is half written must not pass for what was asked for.
            os.unlink(name, dir_fd=here)
            raise
        finally:
            os.close(target)

    def _dress(self, directory: int, node: Node) -> None:
        """Give a directory its owner, mode and mark."""
        status = os.fstat(directory)
        if self._owner and (status.st_uid, status.st_gid) != (node.uid, node.gid):
            os.fchown(directory, node.uid, node.gid)
        if bool(node.flags & OPAQUE) != is_opaque(directory):
            if node.flags & OPAQUE:
                os.setxattr(directory, OPAQUE_MARK, b"y")
            else:
                os.removexattr(directory, OPAQUE_MARK)
        if stat.S_IMODE(status.st_mode) != node.mode:
            os.fchmod(directory, node.mode & 0o777)


@contextmanager
def _entered(parent: int, name: str) -> Iterator[int]:
    """A directory of the tree, open and writable for its owner as long as the block lasts."""
    try:
        here = beneath.enter(parent, name)
    except PermissionError as error:
        if error.errno != errno.EACCES:
            raise
        beneath.open_up(parent, name)
        here = beneath.enter(parent, name)
    try:
        with _writable(here):
            yield here
    finally:
        os.close(here)


@contextmanager
def _writable(directory: int) -> Iterator[None]:
    if os.geteuid() != 0 and (mode := stat.S_IMODE(os.fstat(directory).st_mode)) & 0o700 != 0o700:
        os.fchmod(directory, mode | 0o700)
    yield
