"""The checkpoints of a session: numbered trees in a private directory, bounded and collected.

Number 0 is the workspace as the session got it. One process writes (it holds the session's lock); any may
read. Beyond the bounds the oldest go first, then the start, and what only they held is removed. A checkpoint
is there when its own small file is, which is written last.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Container, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from sandbox.checkpoints import tree
from sandbox.checkpoints.errors import CheckpointError, Damaged, TooMuch
from sandbox.checkpoints.packs import Packs, PackWriter, sweep, sync_directory, write_whole
from sandbox.checkpoints.scan import Scanned, Seen, scan
from sandbox.workspace import beneath, layout
from sandbox.workspace.quota import opened

DIRECTORY = "checkpoints"
"""Its name in a session's directory."""
_VERSION = 2
_SUFFIX = ".checkpoint"
_ROOM = 9, 10
"""Collecting makes room for some more, so that it is not done for each."""
_MOST_PACKS = 128
"""Each is an open file of this process."""
_HOST_RESERVE = 1 << 30
"""Bytes that stay free on the host's disk."""


@dataclass(frozen=True)
class Checkpoint:
    number: int
    digest: str
    """BLAKE2b of the tree, which stands for every name, mode and byte of it."""
    files: int
    """Files and links that differ from the checkpoint before."""
    stored_bytes: int
    """Stored for it alone: what no earlier one held."""
    left_out: int
    """Names of what is not kept: special files, what could not be read, what lies too deep."""
    unsettled: bool
    """Something was, or may have been, writing while it was taken."""

    @property
    def root(self) -> bytes:
        return bytes.fromhex(self.digest)


@dataclass(frozen=True)
class Bounds:
    megabytes: int
    count: int
    """Besides number 0."""


def file_of(store: Path, number: int) -> Path:
    """The small file that makes a checkpoint; written once, never altered."""
    return store / f"{number:06}{_SUFFIX}"


class Store:
    """Reading: `numbers`, `load`, `packs`. Close it after use."""

    def __init__(self, session_dir: Path) -> None:
        """CheckpointError when the session has none."""
        self.directory = session_dir / DIRECTORY
        if not self.directory.is_dir():
            raise CheckpointError("this session has no checkpoints")
        self.packs = Packs(self.directory)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.packs.close()

    def numbers(self) -> list[int]:
        return sorted(int(path.stem) for path in self.directory.glob(f"*{_SUFFIX}") if path.stem.isdecimal())

    def load(self, number: int) -> Checkpoint:
        """CheckpointError for one that was never taken, or was collected."""
        try:
            fields = json.loads(self._path(number).read_bytes())
            if fields.pop("version") != _VERSION:
                raise CheckpointError(f"checkpoint {number} was taken by another version of usermode")
            found = Checkpoint(**fields)
            assert len(found.root) == len(tree.NOTHING)
            return found
        except FileNotFoundError:
            have = ", ".join(map(str, self.numbers()[-10:])) or "none"
            raise CheckpointError(f"there is no checkpoint {number}; the latest are {have}") from None
        except (ValueError, TypeError, KeyError, AttributeError, AssertionError) as error:
            raise Damaged(f"checkpoint {number} cannot be read: {error}") from error

    def _readable(self, number: int) -> Checkpoint | None:
        try:
            return self.load(number)
        except CheckpointError:
            return None

    def _path(self, number: int) -> Path:
        return file_of(self.directory, number)


class Writer(Store):
    """The one that takes checkpoints of a session's tree and keeps their bounds."""

    def __init__(self, session_dir: Path, bounds: Bounds, known: Collection[int] | None = None) -> None:
        """`known`: numbers that who asks for checkpoints has been told of, also those that are gone, so that
        none is given twice; None for all that there are.
        """
        (session_dir / DIRECTORY).mkdir(mode=0o700, exist_ok=True)
        (session_dir / DIRECTORY).chmod(0o700)
        super().__init__(session_dir)
        sweep(self.directory)
        self._session_dir = session_dir
        self._bounds = bounds
        self._seen: Seen | None = None
        numbers = self.numbers()
        self._next = max([*numbers, *(known or ())], default=-1) + 1
        self.last = self._readable(numbers[-1]) if numbers else None
        # A crash before it was written down leaves one that nobody knows of; so does another's `first`.
        self._told = known is None or not numbers or numbers[-1] in known

    def take(self, *, unsettled: bool = False, keep: Container[int] = ()) -> Checkpoint | None:
        """Keep the tree as it is now; None when it is as it was the last time. None of `keep` is collected.

        CheckpointError when it cannot be kept: a later one may fit.
        """
        self._refuse_full_disk()
        limit = self._bounds.megabytes << 20
        writer = PackWriter(self.packs, limit)
        try:
            found = _scanned(self._session_dir, writer, self._seen, unsettled=unsettled)
            same = self.last is not None and self.last.root == found.digest
            before = self.packs.size
            if not same or writer.written:  # what was damaged is stored again
                writer.commit()
            if same:
                self._seen = found.top
                return None
            taken = Checkpoint(
                number=self._next,
                digest=found.digest.hex(),
                files=found.files,
                stored_bytes=self.packs.size - before,
                left_out=found.left_out,
                unsettled=unsettled or found.moved,
            )
            self._keep(taken, keep)
        except OSError as error:
            raise CheckpointError(f"no checkpoint: {error.strerror or error}") from error
        finally:
            writer.abort()
        self._seen = found.top
        return taken

    def untold(self) -> Checkpoint | None:
        """The last one, if whoever asks for them was not told of it before; to be asked for before `take`."""
        told, self._told = self._told, True
        return None if told else self.last

    def hand_over(self, other: Writer) -> Checkpoint:
        """The tree as it is now, as the first checkpoint of another session whose store has none yet, but all
        packs of this one. CheckpointError when it cannot be kept there.
        """
        taken, seen = other.first(self._session_dir, self._seen)
        if self.last is not None and taken.digest == self.last.digest:
            # All that it is made of stands here as well; else the next one of ours would lack it.
            self._seen = seen
        return taken

    def first(self, session_dir: Path, seen: Seen | None) -> tuple[Checkpoint, Seen]:
        """Checkpoint 0, taken of another session's tree; what `seen` knows of that is not read again."""
        assert self._next == 0
        self._refuse_full_disk()
        writer = PackWriter(self.packs, self._bounds.megabytes << 20)
        try:
            found = _scanned(session_dir, writer, seen, unsettled=False)
            writer.commit()
            taken = Checkpoint(0, found.digest.hex(), 0, 0, found.left_out, found.moved)
            self._write(taken)
        except OSError as error:
            raise CheckpointError(f"no snapshot: {error.strerror or error}") from error
        finally:
            writer.abort()
        self.last, self._next = taken, 1
        return taken, found.top

    def _keep(self, taken: Checkpoint, keep: Container[int]) -> None:
        if self._held([taken]) > self._bounds.megabytes << 20:
            self._sweep_packs(hard=True)
            raise TooMuch(f"no checkpoint: the workspace takes more than {self._bounds.megabytes:,} MB")
        self._write(taken)
        self.last, self._next, self._told = taken, taken.number + 1, False
        self._collect(taken, keep)
        self._told = True  # by the answer

    def _held(self, checkpoints: Iterable[Checkpoint]) -> int:
        """Bytes of all objects that these are made of."""
        if self.packs.size <= self._bounds.megabytes << 20:
            return self.packs.size  # no less is known to be needed, and all of it fits
        live = tree.reachable(self.packs, (checkpoint.root for checkpoint in checkpoints))
        return sum(map(self.packs.length, live))

    def _write(self, taken: Checkpoint) -> None:
        # The commit point: past here the checkpoint exists.
        write_whole(self._path(taken.number), json.dumps({"version": _VERSION, **asdict(taken)}).encode())

    def _collect(self, newest: Checkpoint, kept: Container[int]) -> None:
        """Drop the oldest until all is within the bounds."""
        limit = self._bounds.megabytes << 20
        numbers = self.numbers()
        droppable = [number for number in numbers if number not in (0, newest.number) and number not in kept]
        if len(droppable) + (newest.number != 0) > self._bounds.count:
            keep = max(self._bounds.count * _ROOM[0] // _ROOM[1] - 1, 0)
            self._drop(droppable[: len(droppable) - keep])
            droppable = droppable[len(droppable) - keep :]
            self._sweep_packs(hard=False)
        if newest.number != 0 and 0 not in kept:
            droppable.append(0)
        while self.packs.size > limit and droppable:
            half = max(1, len(droppable) // 2) if len(droppable) > 1 else 1
            self._drop(droppable[:half])
            droppable = droppable[half:]
            self._sweep_packs(hard=True)
        if len(self.packs.sizes) > _MOST_PACKS:
            self._merge_packs()

    def _drop(self, numbers: list[int]) -> None:
        for number in numbers:
            self._path(number).unlink(missing_ok=True)
        sync_directory(self.directory)

    def _sweep_packs(self, *, hard: bool) -> None:
        """Remove objects that no checkpoint has: whole packs, and what is mostly dead (`hard`: partly)."""
        live = self._live()
        dead: list[Path] = []
        rewritten: list[Path] = []
        for path in self.packs.sizes:
            held = self.packs.contents(path)
            alive = sum(length for digest, length in held if digest in live)
            total = sum(length for _, length in held)
            if not any(digest in live for digest, _ in held):
                dead.append(path)
            elif alive < (total if hard else total // 2):
                rewritten.append(path)
        if dead:
            self.packs.remove(dead)
        if rewritten:
            self._rewrite(rewritten, live)

    def _merge_packs(self) -> None:
        """Make one of the smaller half of them, so that each object is moved seldom."""
        by_size = sorted(self.packs.sizes, key=self.packs.sizes.__getitem__)
        with suppress(Damaged):  # What holds such an object stays as it is.
            self._rewrite(by_size[: _MOST_PACKS // 2 + 1], self._live())

    def _live(self) -> set[bytes]:
        """What the checkpoints are made of. One that lacks something, so that nobody can be taken back to it,
        is dropped: it must not keep the others from being collected.
        """
        try:
            return self._made_of(self.numbers())
        except CheckpointError:
            self._drop([number for number in self.numbers() if not self._is_whole(number)])
            return self._made_of(self.numbers())

    def _is_whole(self, number: int) -> bool:
        try:
            self._made_of([number])
        except CheckpointError:
            return False
        return True

    def _made_of(self, numbers: list[int]) -> set[bytes]:
        return tree.reachable(self.packs, [self.load(number).root for number in numbers])

    def _rewrite(self, paths: list[Path], live: set[bytes]) -> None:
        """Put what is alive of these packs into one new pack; a crash leaves both, and loses nothing."""
        writer = PackWriter(self.packs, self.packs.size)
        try:
            for path in paths:
                for digest, _ in self.packs.contents(path):
                    if digest in live:
                        writer.keep(digest)
            writer.commit()
        finally:
            writer.abort()
        self.packs.remove(paths)

    def _refuse_full_disk(self) -> None:
        found = os.statvfs(self.directory)
        if found.f_bavail * found.f_frsize < _HOST_RESERVE:
            raise CheckpointError("no checkpoint: the host's disk is nearly full")


def _scanned(session_dir: Path, writer: PackWriter, seen: Seen | None, *, unsettled: bool) -> Scanned:
    with opened(session_dir) as path, beneath.root(path) as top:
        overlay = path == layout.upper_of(session_dir)
        return scan(top, writer, seen, overlay=overlay, unsettled=unsettled)
