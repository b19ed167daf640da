"""Packs: content-addressed storage, many objects in one file, each once, under the BLAKE2b of its bytes.

A pack is written under a temporary name, flushed and renamed, so that one that is there is whole; it is never
altered afterwards and may be hard-linked. Objects lie one after another, then the index, then its length:

    object … | (digest, offset, length) … | count, magic

A file for each object would cost a create and a flush for every one of twenty thousand. BLAKE2b, of 256 bits,
takes half the time of SHA-256 on a processor that has no instructions for that.
"""

from __future__ import annotations

import os
import secrets
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from sandbox.checkpoints.errors import Damaged, TooMuch

SUFFIX = ".pack"
_NEW = ".new"
_ROW = struct.Struct(">32sQQ")
_FOOT = struct.Struct(">Q8s")
_MAGIC = b"umpack02"
_CHUNK = 1 << 20
_hasher = partial(blake2b, digest_size=32)


class _Place(NamedTuple):
    descriptor: int
    offset: int
    length: int


class Packs:
    """All packs of a directory, open for reading; they stay readable when somebody else collects them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.sizes: dict[Path, int] = {}
        """Bytes of each pack."""
        self._places: dict[bytes, _Place] = {}
        self.damaged: list[Path] = []
        """Packs that are none any more: what only they held is missing."""
        self._descriptors: dict[Path, int] = {}
        try:
            for path in sorted(directory.glob(f"*{SUFFIX}")):
                try:
                    self.add(path)
                except Damaged:
                    self.damaged.append(path)
        except BaseException:
            self.close()
            raise

    def __contains__(self, digest: object) -> bool:
        return digest in self._places

    @property
    def size(self) -> int:
        """Bytes of all of them."""
        return sum(self.sizes.values())

    def add(self, path: Path) -> None:
        """Take up a pack. Damaged when it is none, and then nothing of it is."""
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            size = os.fstat(descriptor).st_size
            places = {
                digest: _Place(descriptor, offset, length)
                for digest, offset, length in _index(descriptor, size, path)
            }
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptors[path], self.sizes[path] = descriptor, size
        self._places |= places

    def length(self, digest: bytes) -> int:
        """Bytes of an object."""
        return self._place(digest).length

    def chunks(self, digest: bytes) -> Iterator[bytes]:
        """An object's bytes in order. Damaged at the end when they are not what was stored."""
        place, seen, hasher = self._place(digest), 0, _hasher()
        while seen < place.length:
            part = os.pread(place.descriptor, min(_CHUNK, place.length - seen), place.offset + seen)
            if not part:
                break
            hasher.update(part)
            seen += len(part)
            yield part
        if hasher.digest() != digest:
            raise self._damaged(digest)

    def read(self, digest: bytes) -> bytes:
        """An object whole. Damaged when its bytes are not what was stored."""
        descriptor, offset, length = self._place(digest)
        if length > _CHUNK:
            return b"".join(self.chunks(digest))
        # Most are small, and there are thousands of them: one read each.
        data = os.pread(descriptor, length, offset)
        if _hasher(data).digest() != digest:
            raise self._damaged(digest)
        return data

    def check(self, digest: bytes) -> None:
        """Read an object through. Damaged when it is missing or not what was stored."""
        for _ in self.chunks(digest):
            pass

    def same(self, digest: bytes, parts: Iterable[bytes]) -> bool:
        """Whether these bytes are those of an object."""
        hasher = _hasher()
        for part in parts:
            hasher.update(part)
        return hasher.digest() == digest

    def contents(self, path: Path) -> list[tuple[bytes, int]]:
        """Digest and length of each object of one pack."""
        return [
            (digest, length) for digest, _, length in _index(self._descriptors[path], self.sizes[path], path)
        ]

    def remove(self, paths: Iterable[Path]) -> None:
        """Delete packs that nothing needs."""
        for path in paths:
            os.close(self._descriptors.pop(path))
            del self.sizes[path]
            path.unlink(missing_ok=True)
        # An object may stand in two packs, where collecting was interrupted.
        self._places = {
            digest: _Place(descriptor, offset, length)
            for path, descriptor in self._descriptors.items()
            for digest, offset, length in _index(descriptor, self.sizes[path], path)
        }

    def close(self) -> None:
        """Idempotent."""
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()
        self._places.clear()

    def _damaged(self, digest: bytes) -> Damaged:
        return Damaged(f"object {digest.hex()} of {self.directory} is not what was stored")

    def _place(self, digest: bytes) -> _Place:
        try:
            return self._places[digest]
        except KeyError:
            raise Damaged(f"object {digest.hex()} is missing in {self.directory}") from None


def _index(descriptor: int, size: int, path: Path) -> Iterator[tuple[bytes, int, int]]:
    foot = os.pread(descriptor, _FOOT.size, max(0, size - _FOOT.size))
    if len(foot) != _FOOT.size:
        raise Damaged(f"{path} is no pack")
    count, magic = _FOOT.unpack(foot)
    start = size - _FOOT.size - count * _ROW.size
    if magic != _MAGIC or start < 0:
        raise Damaged(f"{path} is no pack")
    rows = os.pread(descriptor, count * _ROW.size, start)
    for digest, offset, length in _ROW.iter_unpack(rows):
        if offset + length > start:
            raise Damaged(f"{path} has an index that points beyond its objects")
        yield digest, offset, length


class PackWriter:
    """A pack being written: `put` what is new, then `commit` or `abort`."""

    def __init__(self, packs: Packs, limit: int) -> None:
        self.written = 0
        """Bytes of objects so far. TooMuch is raised before they exceed `limit`."""
        self._packs = packs
        self._limit = limit
        self._index: dict[bytes, tuple[int, int]] = {}
        self._temporary = packs.directory / f"{secrets.token_hex(8)}{_NEW}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.fdopen(os.open(self._temporary, flags, 0o600), "wb", buffering=_CHUNK)

    def put(self, data: bytes) -> bytes:
        """Store an object, unless it is there already; returns its digest."""
        digest = _hasher(data).digest()
        if digest not in self._index and digest not in self._packs:
            self._fits(len(data))
            self._file.write(data)
            self._index[digest] = (self.written, len(data))
            self.written += len(data)
        return digest

    def stream(self, parts: Iterable[bytes]) -> bytes:
        """The same for what is too large to be held."""
        hasher, length = _hasher(), 0
        for part in parts:
            self._fits(length + len(part))
            hasher.update(part)
            self._file.write(part)
            length += len(part)
        digest = hasher.digest()
        if digest in self._index or digest in self._packs:
            self._file.flush()
            self._file.truncate(self.written)
            self._file.seek(self.written)
        else:
            self._index[digest] = (self.written, length)
            self.written += length
        return digest

    def keep(self, digest: bytes) -> None:
        """Store an object again that stands in another pack."""
        if digest in self._index:
            return
        length = 0
        for part in self._packs.chunks(digest):
            self._file.write(part)
            length += len(part)
        self._index[digest] = (self.written, length)
        self.written += length

    def commit(self) -> None:
        """Make it durable and readable; nothing is left of one that stayed empty."""
        if not self._index:
            self.abort()
            return
        self._file.writelines(_ROW.pack(digest, *place) for digest, place in self._index.items())
        self._file.write(_FOOT.pack(len(self._index), _MAGIC))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        path = self._temporary.with_suffix(SUFFIX)
        self._temporary.rename(path)
        sync_directory(self._packs.directory)
        self._packs.add(path)

    def abort(self) -> None:
        """Idempotent."""
        # A full disk fails the close, too: the buffer cannot be written out, and need not be.
        with suppress(OSError):
            self._file.close()
        self._temporary.unlink(missing_ok=True)

    def _fits(self, more: int) -> None:
        if self.written + more > self._limit:
            raise TooMuch(f"more than {self._limit >> 20:,} MB would have to be kept")


def sweep(directory: Path) -> None:
    """Remove what a writer that died left half written. Only for the directory's one writer."""
    for path in directory.glob(f"*{_NEW}"):
        path.unlink(missing_ok=True)


def write_whole(path: Path, data: bytes) -> None:
    """A small file beside the packs, which is there whole and durable or not at all."""
    temporary = path.with_suffix(_NEW)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(temporary, flags, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make the names in it durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
