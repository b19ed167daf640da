"""A process's descriptors and words, changed for the time of one command or for good."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sandbox.memory.processes import GuestProcess
from sandbox.memory.streams import Stream

Targets = list[tuple[int, str, str]]
"""Redirections: a descriptor, an operator, and the file's name or the other descriptor."""


def redirect(process: GuestProcess, targets: Targets) -> None:
    """Open and close what the redirections say, for good."""
    streams = process.streams
    for fd, operator, target in targets:
        if operator in (">&", "<&"):
            new = None if target == "-" else process.stream(int(target)).dup()
        else:
            mode = {"<": "r", ">>": "a", "<>": "+"}.get(operator, "w")
            new = process.open(target, mode)
        if fd in streams:
            streams.pop(fd).close()
        if new is not None:
            streams[fd] = new


@contextmanager
def redirected(process: GuestProcess, targets: Targets) -> Iterator[None]:
    """The same for the time of one command, then as it was."""
    if not targets:
        yield
        return
    kept = {fd: stream.dup() for fd, stream in process.streams.items()}
    try:
        redirect(process, targets)
        yield
    finally:
        for stream in process.streams.values():
            stream.close()
        process.streams = kept


@contextmanager
def swapped(process: GuestProcess, streams: dict[int, Stream]) -> Iterator[None]:
    kept, process.streams = process.streams, streams
    try:
        yield
    finally:
        process.streams = kept


@contextmanager
def argued(process: GuestProcess, argv: list[str]) -> Iterator[None]:
    kept, process.argv = process.argv, argv
    try:
        yield
    finally:
        process.argv = kept
