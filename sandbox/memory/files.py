"""The double's file tree: directories, files, symlinks, FIFOs and devices, with one user's permissions.

Errors are `OSError`s with the errno Linux gives, so that callers see the same classes as from a real box.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from sandbox.protocol import FileKind, FileStat

SYMLINKS_MAX = 40
NAME_MAX = 255
PATH_MAX = 4096


def failure(code: int, path: str) -> OSError:
    return OSError(code, os.strerror(code), path)


def now_ns() -> int:
    return time.time_ns()


@dataclass(eq=False)
class Node:
    kind: FileKind
    mode: int
    owned: bool = True
    """By the sandbox user; everything else is root's."""
    data: bytearray = field(default_factory=bytearray)
    hole: int = 0
    """Zeros after the data that no memory is spent on (a sparse file)."""
    entries: dict[str, Node] = field(default_factory=dict)
    target: str | None = None
    program: Callable[[Any], Awaitable[int]] | None = None
    """What it is to run it, a `processes.Program`: a tree knows no processes."""
    mtime_ns: int = field(default_factory=now_ns)

    @property
    def size(self) -> int:
        if self.kind == "symlink":
            return len(os.fsencode(self.target or ""))
        return len(self.data) + self.hole

    def may(self, bit: int) -> bool:
        """Whether the sandbox user has r (4), w (2) or x (1)."""
        return bool((self.mode >> (6 if self.owned else 0)) & bit)

    def read(self, offset: int, length: int) -> bytes:
        found = bytes(self.data[offset : offset + length])
        return found + bytes(max(0, min(length, self.size - offset) - len(found)))

    def write(self, offset: int, data: bytes) -> None:
        if offset > len(self.data):
            self.data.extend(bytes(offset - len(self.data)))
        old_size = self.size
        self.data[offset : offset + len(data)] = data
        self.hole = max(0, old_size - len(self.data))
        self.mtime_ns = now_ns()

    def truncate(self, size: int) -> None:
        del self.data[size:]
        self.hole = size - len(self.data)
        self.mtime_ns = now_ns()


class FileTree:
    """Paths are resolved as the kernel does: component by component, symlinks followed, permissions asked."""

    def __init__(self) -> None:
        self.root = Node("directory", 0o755, owned=False)
        for path, mode, owned in (
            ("/bin", 0o755, False),
            ("/dev", 0o755, False),
            ("/etc", 0o755, False),
            ("/home", 0o755, False),
            ("/home/sandbox", 0o700, True),
            ("/tmp", 0o1777, False),
            ("/workspace", 0o755, True),
        ):
            self.put(path, Node("directory", mode, owned))
        self.root.entries["tmp"].mode = 0o1777
        for name in ("null", "zero", "full", "urandom"):
            self.put(f"/dev/{name}", Node("device", 0o666, owned=False))
        self.put(
            "/etc/passwd", Node("file", 0o644, owned=False, data=bytearray(b"root:x:0:0::/root:/bin/sh\n"))
        )

    def put(self, path: str, node: Node) -> None:
        """Place a node whatever the permissions, making directories on the way."""
        *parents, name = [part for part in path.split("/") if part]
        here = self.root
        for part in parents:
            here = here.entries.setdefault(part, Node("directory", 0o755))
        here.entries[name] = node

    def locate(self, path: str, cwd: str = "/", follow: bool = True) -> tuple[Node, str, Node | None]:
        """The parent directory, the name in it and the node there, if any.

        With `follow`, a symlink as the last component is resolved too, also to a place where nothing is.
        """
        if not path:
            raise failure(errno.ENOENT, path)
        if len(os.fsencode(path)) >= PATH_MAX:
            raise failure(errno.ENAMETOOLONG, path)
        stack: list[tuple[str, Node]] = []
        rest = [*([] if path.startswith("/") else cwd.split("/")), *path.split("/")][::-1]
        must_be_directory = path.endswith(("/", "/."))
        links = 0
        while rest:
            part = rest.pop()
            here = stack[-1][1] if stack else self.root
            if part in ("", "."):
                continue
            if here.kind != "directory":
                raise failure(errno.ENOTDIR, path)
            if not here.may(1):
                raise failure(errno.EACCES, path)
            if part == "..":
                stack[-1:] = []
                continue
            if len(os.fsencode(part)) > NAME_MAX:
                raise failure(errno.ENAMETOOLONG, path)
            node = here.entries.get(part)
            last = not any(part not in ("", ".") for part in rest)
            if node is None:
                if last:
                    return here, part, None
                raise failure(errno.ENOENT, path)
            if node.kind == "symlink" and (follow or must_be_directory or not last):
                links += 1
                if links > SYMLINKS_MAX:
                    raise failure(errno.ELOOP, path)
                target = node.target or ""
                if target.startswith("/"):
                    stack.clear()
                rest.extend(reversed(target.split("/")))
                continue
            stack.append((part, node))
        if not stack:
            return self.root, ".", self.root
        name, node = stack[-1]
        if must_be_directory and node.kind != "directory":
            raise failure(errno.ENOTDIR, path)
        return (stack[-2][1] if len(stack) > 1 else self.root), name, node

    def get(self, path: str, cwd: str = "/", follow: bool = True) -> Node:
        node = self.locate(path, cwd, follow)[2]
        if node is None:
            raise failure(errno.ENOENT, path)
        return node

    def create(self, path: str, node: Node, cwd: str = "/") -> Node:
        parent, name, found = self.locate(path, cwd, follow=False)
        if found is not None:
            raise failure(errno.EEXIST, path)
        self.attach(parent, name, node, path)
        return node

    def attach(self, parent: Node, name: str, node: Node, path: str) -> None:
        """Enter a name into a directory, replacing what it named."""
        if not parent.may(2):
            raise failure(errno.EACCES, path)
        parent.entries[name] = node
        parent.mtime_ns = now_ns()

    def remove(self, path: str, cwd: str = "/") -> None:
        parent, name, found = self.locate(path, cwd, follow=False)
        if found is None:
            raise failure(errno.ENOENT, path)
        sticky = parent.mode & 0o1000 and not parent.owned and not found.owned
        if not parent.may(2) or sticky:
            raise failure(errno.EACCES, path)
        del parent.entries[name]

    def stat(self, path: str, cwd: str = "/") -> FileStat:
        return describe(path, self.get(path, cwd, follow=False))

    def list(self, path: str, cwd: str = "/") -> list[FileStat]:
        node = self.get(path, cwd)
        if node.kind != "directory":
            raise failure(errno.ENOTDIR, path)
        if not node.may(4):
            raise failure(errno.EACCES, path)
        names = sorted(node.entries, key=os.fsencode)
        return [describe(f"{path.rstrip('/')}/{name}", node.entries[name]) for name in names]


def describe(path: str, node: Node) -> FileStat:
    return FileStat(path, node.kind, node.size, node.mode & 0o7777, node.mtime_ns, node.target)
