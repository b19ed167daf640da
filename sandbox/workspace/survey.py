"""A survey: what a copy of a directory would leave out, found without copying.

An overlay shows all that lies beneath it. So the directory is walked once, by the same rules as a copy: each
name is judged, the first bytes of each file are looked at, and what must not be seen is listed, to be hidden
before anybody looks. What may be seen is noted with its status, for the manifest.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field

from sandbox.errors import SandboxRefused
from sandbox.workspace import beneath, secretfiles
from sandbox.workspace.copyfile import FileCopier, entry, unreadable
from sandbox.workspace.copyin import SPECIAL
from sandbox.workspace.manifest import DIRECTORY, FILE, REWRITTEN, SYMLINK, Entry

MAX_NAMES = 2_000_000
"""More than this are refused: a manifest is held in memory."""
_HEAD = 4096
_CONFIG_BYTES = 1 << 18
"""Git configuration larger than this cannot be looked through and is hidden."""


@dataclass(frozen=True)
class Cleaned:
    """A file of which the session sees a version without credentials."""

    path: str
    content: bytes
    status: os.stat_result


@dataclass
class Found:
    entries: dict[str, Entry] = field(default_factory=dict)
    targets: dict[str, str] = field(default_factory=dict)
    """Of symlinks."""
    hidden: list[tuple[str, str]] = field(default_factory=list)
    """Paths that must not be seen, with the reason. A directory stands for all that is in it."""
    cleaned: list[Cleaned] = field(default_factory=list)


class Survey:
    """One walk, depth first, beneath an open directory."""

    def __init__(self, judge: FileCopier, top: os.stat_result) -> None:
        self.found = Found()
        self._judge = judge
        self._top = top

    def directory(self, here: int, prefix: str, depth: int) -> None:
        below: list[str] = []
        with os.scandir(here) as listing:
            for item in listing:
                path = prefix + item.name
                if item.is_dir(follow_symlinks=False):
                    below.append(item.name)
                elif item.is_file(follow_symlinks=False):
                    self._file(here, path, item.name)
                elif item.is_symlink():
                    self._symlink(here, path, item.name)
                else:
                    kind = stat.S_IFMT(item.stat(follow_symlinks=False).st_mode)
                    self._hide(path, SPECIAL.get(kind, "special file"))
        if len(self.found.entries) > MAX_NAMES:
            raise SandboxRefused(f"the directory holds more than {MAX_NAMES:,} files; name a smaller one")
        for name in below:
            self._enter(here, prefix + name, name, depth + 1)

    def _enter(self, here: int, path: str, name: str, depth: int) -> None:
        if reason := self._judge.rules.directory(path):
            return self._hide(path, reason)
        try:
            below = beneath.enter(here, name)
        except OSError as error:
            return self._hide(path, unreadable(error))
        try:
            found = os.fstat(below)
            if found.st_dev != self._top.st_dev:
                return self._hide(path, "on another file system")
            if depth > beneath.MAX_DEPTH:
                return self._hide(path, f"more than {beneath.MAX_DEPTH} directories deep")
            if not self._judge.readable(found, 0o5):
                return self._hide(path, "not readable by the owner of the directory")
            self.found.entries[path] = entry(DIRECTORY, found, found)
            self.directory(below, f"{path}/", depth)
        finally:
            os.close(below)

    def _symlink(self, here: int, path: str, name: str) -> None:
        if reason := self._judge.rules.file(path):
            return self._hide(path, reason)
        try:
            found = os.stat(name, dir_fd=here, follow_symlinks=False)
            self.found.targets[path] = os.readlink(name, dir_fd=here)
        except OSError as error:
            return self._hide(path, unreadable(error))
        self.found.entries[path] = entry(SYMLINK, found, found)
        return None

    def _file(self, here: int, path: str, name: str) -> None:
        reason = self._judge.rules.file(path)
        if reason is None:
            try:
                reason = self._look_into(here, path, name)
            except OSError as error:
                reason = unreadable(error)
        if reason is not None:
            self._hide(path, reason)

    def _look_into(self, here: int, path: str, name: str) -> str | None:
        descriptor = os.open(name, beneath.READ_FILE, dir_fd=here)
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                return "changed while it was looked at"
            if not self._judge.readable(found, 0o4):
                return "not readable by the owner of the directory"
            config = secretfiles.is_git_config(path)
            # A `.pem` is judged by all of it; white space may stand before a key.
            whole = config or path.lower().endswith(".pem")
            head = os.read(descriptor, _CONFIG_BYTES if whole else _HEAD) if found.st_size else b""
            if not whole and head and not head.strip():
                head += os.read(descriptor, _CONFIG_BYTES - len(head))
        finally:
            os.close(descriptor)
        reason = secretfiles.reason_for_content(path, head)
        if reason and not self._judge.rules.included(path):
            return reason
        if config:
            if found.st_size > len(head):
                return "git configuration too large to look through for credentials"
            clean = secretfiles.without_credentials(head)
            if clean != head:
                self.found.cleaned.append(Cleaned(path, clean, found))
                return None
        self.found.entries[path] = entry(FILE, found, found)
        return None

    def _hide(self, path: str, reason: str) -> None:
        self.found.hidden.append((path, reason))


def cleaned_entry(cleaned: Cleaned, made: os.stat_result) -> Entry:
    """How the manifest knows a file of which another version was put in place."""
    return entry(FILE, cleaned.status, made, REWRITTEN)
