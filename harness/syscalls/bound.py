"""What the answer to a question about a command is bound to: its text, place, user and the files it names.

Every word of the line that names a file is looked up from outside, through the sandbox, and its content
digested. A file that changes, appears or goes between the answer and the effect makes the answer void.
What a program opens that the line does not name is beyond this; the box holds it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise, product

from harness.syscalls.base import Refused, resolve
from harness.visible import visible
from policies.shell import Words, bare, parse
from sandbox.errors import SandboxError
from sandbox.protocol import Sandbox

MAX_FILES = 64
"""Words of a command that are looked up; a command with more is asked about every time."""
MAX_BYTES = 64 << 20
"""Read of all named files together; beyond that size and time stand for the content."""
_CHUNK = 1 << 20
_HIDES = frozenset("$`*?[~")
"""In a line without a clear reading these stand for names that are not in it."""
_GOES_TO = frozenset({"cd", "pushd", "-C", "--directory"})
_IMPLIED = {
    **dict.fromkeys(("make", "gmake"), ("GNUmakefile", "makefile", "Makefile")),
    **dict.fromkeys(("npm", "npx", "pnpm", "yarn", "node"), ("package.json",)),
    **dict.fromkeys(("pytest", "py.test", "tox"), ("conftest.py", "pyproject.toml", "pytest.ini", "tox.ini")),
    "pip": ("setup.py", "pyproject.toml"),
    "cargo": ("Cargo.toml", "build.rs"),
    "just": ("justfile",),
    "cmake": ("CMakeLists.txt",),
}
"""What a program reads without being told; the usual ones, not all."""
_QUOTED = re.compile(r"""'([^'\n]+)'|"([^"\n]+)\"""")
_BREAKS = re.compile(r"[\s;|&()<>`{}]+")
_MADE_UP = ("/proc/", "/sys/", "/dev/")
"""What the kernel says anew each time it is read; a command that names it is asked about every time."""
_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


@dataclass(frozen=True)
class BoundCommand:
    """A command with all that is bound of it, as it stood when it was looked at."""

    command: str
    cwd: str
    user: str
    files: Mapping[str, str]
    """Absolute path and digest of each file that the command names."""
    whole: bool
    """Every word was looked up, and every file was read."""

    @property
    def bound(self) -> dict[str, object]:
        return {
            "command": self.command,
            "cwd": self.cwd,
            "user": self.user,
            "env": {},  # The sandbox's own environment; a command adds nothing to it.
            "files": dict(self.files),
        }

    @property
    def facts(self) -> tuple[tuple[str, str], ...]:
        files = [("file", f"{path} {digest}") for path, digest in self.files.items()]
        if not self.whole:
            files.append(("not bound", "it names more, or larger, files than are looked at"))
        return (("command", self.command), ("in", self.cwd), ("as", self.user), *files)

    @property
    def plain(self) -> bool:
        """Every character of it is what it seems."""
        return visible(self.command + self.cwd, multiline=True) == self.command + self.cwd


async def look(box: Sandbox, command: str, cwd: str, user: str, *, programs: bool) -> BoundCommand:
    """Look at a command as it stands now. With `programs` the files its programs' names stand for count too.

    Raises SandboxError.
    """
    named, whole = _paths(command, cwd, programs=programs)
    paths = [path for path in named if not path.startswith(_MADE_UP)]
    whole = whole and paths == named
    files: dict[str, str] = {}
    left = MAX_BYTES
    for path in paths:
        digest, size = await _digest(box, path, left)
        if digest is None:
            continue
        files[path] = digest
        left -= size
        whole = whole and digest.startswith("sha256:")
    return BoundCommand(command, cwd, user, files, whole)


async def look_at(box: Sandbox, path: str) -> str | None:
    """The digest of one file; None where there is none. Raises SandboxError."""
    return (await _digest(box, path, MAX_BYTES))[0]


def _paths(command: str, cwd: str, *, programs: bool) -> tuple[list[str], bool]:
    """Absolute paths that words of the command may name, at most MAX_FILES, and whether those are all."""
    commands = parse(command).commands
    whole = commands is not None or _HIDES.isdisjoint(command)
    places = [cwd]
    names: dict[str, None] = {}
    found: dict[str, None] = {}
    for words in commands or (_loose(command),):
        for before, word in pairwise(("", *words)):
            names.update(dict.fromkeys(_names(before, word)))
            if before in _GOES_TO:
                with suppress(Refused):
                    places.append(resolve(word, places[-1]))
        if programs and words and "/" not in words[0]:
            found.update(dict.fromkeys(f"{place}/{words[0]}" for place in _PATH))
    for name, place in product(names, dict.fromkeys(places)):
        with suppress(Refused):
            found[resolve(name, place)] = None
    paths = [path for path in found if path not in places]
    return paths[:MAX_FILES], whole and len(paths) <= MAX_FILES


def _names(before: str, word: str) -> tuple[str, ...]:
    """What a word may stand for: itself, what follows `=` or `@`, what a program reads by itself."""
    implied = _IMPLIED.get(word.rpartition("/")[2], ())
    if before == "-m":
        module = word.replace(".", "/")
        implied = (f"{module}.py", f"{module}/__main__.py")
    return tuple(dict.fromkeys((word, word.rpartition("=")[2], word.lstrip("@"), *implied)))


def _loose(command: str) -> Words:
    """The words of a line that has no clear reading: too many are only looked up in vain."""
    quoted = [one or other for one, other in _QUOTED.findall(command)]
    return (*(word for word in _BREAKS.split(bare(command)) if word), *quoted)


async def _digest(box: Sandbox, path: str, left: int) -> tuple[str | None, int]:
    """The digest of a regular file's content, and its size; None for what is no file or cannot be read."""
    content, size = hashlib.sha256(), 0
    try:
        while part := await box.read_file(path, offset=size, limit=_CHUNK):
            content.update(part)
            size += len(part)
            if size > left:
                raise OSError
    except SandboxError:
        raise
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError):
        return None, 0
    except OSError:
        return await _outline(box, path), 0
    return f"sha256:{content.hexdigest()}", size


async def _outline(box: Sandbox, path: str) -> str | None:
    try:
        found = await box.stat(path)
    except SandboxError:
        raise
    except OSError:
        return None
    return f"unread: {found.kind}, {found.size} bytes, changed {found.mtime_ns}"
