"""The content of one file as an object: its bytes, or, of a large file with holes, its extents.

A sparse giant costs what it holds and not what it says: size and extents first, then the data between the
holes.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator

from sandbox.checkpoints.errors import Damaged
from sandbox.workspace import beneath

WHOLE_BYTES = 1 << 20
"""Up to this a file is read at once, holes or not."""
_CHUNK = 1 << 20
_EXTENTS = 65_536
_COUNT = struct.Struct(">QQ")
_EXTENT = struct.Struct(">QQ")


class TooScattered(OSError):
    """A file with more holes than are kept."""


def is_sparse(status: os.stat_result) -> bool:
    """Whether it says more than it holds, by so much that its extents are kept instead."""
    return status.st_size > WHOLE_BYTES and status.st_blocks * 512 < status.st_size


def plain(descriptor: int, size: int) -> Iterator[bytes]:
    """The first `size` bytes: a file that grows meanwhile is not followed."""
    position = 0
    while position < size and (part := os.pread(descriptor, min(_CHUNK, size - position), position)):
        position += len(part)
        yield part


def extents(descriptor: int, size: int) -> Iterator[bytes]:
    """The same of a sparse file. TooScattered before anything is given."""
    found = list(_found(descriptor, size))
    yield _COUNT.pack(size, len(found)) + b"".join(_EXTENT.pack(*extent) for extent in found)
    for start, length in found:
        position, end = start, start + length
        while position < end:
            part = os.pread(descriptor, min(_CHUNK, end - position), position)
            # A file that was cut short meanwhile: what is gone reads as a hole would.
            part = part or bytes(min(_CHUNK, end - position))
            position += len(part)
            yield part


def write_plain(parts: Iterator[bytes], target: int) -> None:
    for part in parts:
        beneath.write_all(target, part)


def write_extents(parts: Iterator[bytes], target: int) -> None:
    """Write a sparse file again, holes where they were. Damaged for an object that is none."""
    held = b""

    def take(count: int) -> bytes:
        nonlocal held
        while len(held) < count:
            part = next(parts, b"")
            if not part:
                raise Damaged("the object of a sparse file is cut short")
            held += part
        taken, held = held[:count], held[count:]
        return taken

    size, count = _COUNT.unpack(take(_COUNT.size))
    if count > _EXTENTS:
        raise Damaged("the object of a sparse file has too many extents")
    listed = list(_EXTENT.iter_unpack(take(count * _EXTENT.size)))
    os.ftruncate(target, size)
    for start, length in listed:
        os.lseek(target, start, os.SEEK_SET)
        left = length
        while left:
            part = take(min(left, _CHUNK))
            beneath.write_all(target, part)
            left -= len(part)
    if held or next(parts, b""):
        raise Damaged("the object of a sparse file is too long")


def _found(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    position = count = 0
    while position < size:
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
            position = min(os.lseek(descriptor, start, os.SEEK_HOLE), size)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return  # No more data, or cut short between the two.
        if start >= size:
            return
        count += 1
        if count > _EXTENTS:
            raise TooScattered(errno.EFBIG, "more holes than are kept")
        yield start, position - start
