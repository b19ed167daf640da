"""What a container says of itself: the kernel's own tables, read into values.

The words come from inside, before anything of the image has run; a table that cannot be read is a ValueError.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

STATUS = "/proc/self/status"
MOUNTS = "/proc/self/mountinfo"
NETWORK = "/proc/net/dev"
_TOLD = ("Pid", "Uid", "Gid", "Groups", "Cap", "NoNewPrivs", "Seccomp")
_ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class Answer:
    """The probe's, to one question."""

    error: int
    """0, an errno, or `sweep.ENDED_BY` and a signal's number."""
    data: bytes = b""

    @property
    def text(self) -> str:
        return self.data.decode("utf-8", "replace")


class Mount(NamedTuple):
    point: str
    root: str
    """What of the file system is mounted there; `/` is all of it."""
    kind: str
    options: frozenset[str]
    """Of this mount."""
    own: frozenset[str]
    """Of the file system."""

    @property
    def read_only(self) -> bool:
        return "ro" in self.options or "ro" in self.own


def mounts(text: str) -> list[Mount]:
    # Without the three numbers before it, a line is the same in most containers.
    return [_mount(line.split(" ", 3)[-1]) for line in text.splitlines()]


@lru_cache(maxsize=512)
def _mount(line: str) -> Mount:
    place, separator, system = line.partition(" - ")
    fields, kinds = place.split(" "), system.split(" ")
    if not separator or len(fields) < 3 or len(kinds) < 3:
        raise ValueError(f"no line of a mount table: {line[:100]!r}")
    return Mount(
        point=_plain(fields[1]),
        root=_plain(fields[0]),
        kind=kinds[0],
        options=frozenset(fields[2].split(",")),
        own=frozenset(kinds[2].split(",")),
    )


def _plain(path: str) -> str:
    return _ESCAPE.sub(lambda found: chr(int(found[1], 8)), path) if "\\" in path else path


@lru_cache(maxsize=2)
def status(text: str) -> Mapping[str, Sequence[str]]:
    """The words after each name that tells who a process is and what it may do."""
    rows = (line.partition(":") for line in text.splitlines() if line.startswith(_TOLD))
    return {name: value.split() for name, _, value in rows}


def network_devices(text: str) -> set[str]:
    return {line.partition(":")[0].strip() for line in text.splitlines()[2:] if ":" in line}


@dataclass(frozen=True)
class Place:
    """A path, and the file system it is on (the probe's answer to `s`)."""

    mode: int
    device: tuple[int, int]
    read_only: bool
    size: int
    inodes: int


def place(answer: Answer) -> Place:
    mode, major, minor, flags, size, inodes = answer.data.split()
    return Place(int(mode, 8), (int(major), int(minor)), bool(int(flags) & 1), int(size), int(inodes))


def entries(answer: Answer) -> dict[str, tuple[int, tuple[int, int]]]:
    """Name to mode and device (the probe's answer to `l`)."""
    found = {}
    for line in answer.text.splitlines():
        name, mode, major, minor = line.rsplit(" ", 3)
        found[name] = (int(mode, 8), (int(major), int(minor)))
    return found


def glanced(data: bytes) -> dict[str, Answer]:
    """Init's answer to GLANCE, as the probe would give it. ValueError when it is not the three tables."""
    texts = data.split(b"\0")
    if len(texts) != 4 or texts.pop() or not all(texts):
        raise ValueError("what init says of itself is cut off")
    tables = zip((STATUS, MOUNTS, NETWORK), texts, strict=True)
    return {f"r {path}": Answer(0, text) for path, text in tables}


def answers(questions: Sequence[str], data: bytes) -> dict[str, Answer]:
    """The probe's output, question by question. ValueError when it is not the answer to all of them."""
    found, at = {}, 0
    for question in questions:
        end = data.find(b"\n", at, at + 64)
        head = data[at:end].split() if end >= 0 else []
        if len(head) != 2 or not all(word.isdigit() for word in head):
            raise ValueError(f"the probe did not answer {question!r}")
        length = int(head[1])
        if data[end + 1 + length : end + 2 + length] != b"\n":
            raise ValueError(f"the answer to {question!r} is cut off")
        found[question] = Answer(int(head[0]), data[end + 1 : end + 1 + length])
        at = end + 2 + length
    if at != len(data):
        raise ValueError("the probe says more than was asked")
    return found
