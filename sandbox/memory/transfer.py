"""Files of the double as the host reads and writes them: whole, by absolute path, up to a size."""

from __future__ import annotations

import errno
import hashlib
from dataclasses import dataclass

from sandbox.memory.checks import checked_path
from sandbox.memory.files import FileTree, Node, failure


@dataclass(frozen=True)
class Transfer:
    """What is asked for and what is refused is `protocol.Sandbox`'s."""

    tree: FileTree
    file_bytes: int
    """Carried at once, at most."""

    def read(self, path: str, offset: int, limit: int | None) -> bytes:
        if offset < 0 or (limit is not None and limit < 0):
            raise ValueError("offset and limit are not negative")
        node = self.tree.get(checked_path(path))
        if node.kind == "directory":
            raise failure(errno.EISDIR, path)
        if node.kind != "file":
            raise ValueError(f"{path} is a {node.kind}, not a regular file")
        if not node.may(4):
            raise failure(errno.EACCES, path)
        wanted = max(0, node.size - offset)
        wanted = wanted if limit is None else min(wanted, limit)
        if wanted > self.file_bytes:
            raise failure(errno.EFBIG, path)
        return node.read(offset, wanted)

    def write(self, path: str, data: bytes, mode: int | None, expect: str | None, parents: bool) -> None:
        checked_path(path)
        if mode is not None and not 0 <= mode <= 0o777:
            raise ValueError("a mode is permission bits, 0o777 at most")
        if len(data) > self.file_bytes:
            raise failure(errno.EFBIG, path)
        if parents:
            self._make_parents(path)
        parent, name, found = self.tree.locate(path, follow=False)
        if found is not None and found.kind == "symlink":
            raise failure(errno.ELOOP, path)
        if found is not None and found.kind == "directory":
            raise failure(errno.EISDIR, path)
        if found is not None and found.kind != "file":
            raise ValueError(f"{path} is a {found.kind}, not a regular file")
        if found is not None and not found.may(2):
            raise failure(errno.EACCES, path)  # A rename would not ask.
        if expect is not None:
            present = "" if found is None else hashlib.sha256(found.data).hexdigest()
            if present != expect:
                raise failure(errno.EEXIST, path)
        kept = 0o644 if found is None else found.mode
        node = Node("file", kept if mode is None else mode, data=bytearray(data))
        self.tree.attach(parent, name, node, path)

    def _make_parents(self, path: str) -> None:
        parts = [part for part in path.split("/") if part][:-1]
        for count in range(1, len(parts) + 1):
            directory = "/" + "/".join(parts[:count])
            if self.tree.locate(directory)[2] is None:
                self.tree.create(directory, Node("directory", 0o755))
