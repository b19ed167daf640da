"""Planting: the workspace of a session that begins with the files of another one's checkpoint.

`promise` only writes down which one. The files are made when somebody first wants them: beside the start of
a container (`begin`), or at once (`plant`). Until all of them are there the promise lies in the session's
directory, and nobody else is shown the workspace. One that was cut short is thrown away and made anew:
nothing ran in it. One process at a time does this: it holds the session's lock, or has just made the session.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from policies.schema import Limits
from sandbox.checkpoints.compare import same_files
from sandbox.checkpoints.damage import refuse_damaged
from sandbox.checkpoints.errors import CheckpointError, Damaged
from sandbox.checkpoints.packs import sync_directory, write_whole
from sandbox.checkpoints.restore import Restore
from sandbox.checkpoints.store import Checkpoint, Store
from sandbox.errors import SandboxError, SandboxRefused, WorkspaceLost
from sandbox.workspace import beneath, manifest
from sandbox.workspace.hostdisk import refuse_full, room
from sandbox.workspace.layout import PROMISED, upper_of, work_of
from sandbox.workspace.manifest import Manifest
from sandbox.workspace.quota import flush, opened, prepare, release, remove

_VERSION = 1


@dataclass(frozen=True)
class _Promise:
    checkpoint: int
    digest: str
    """Of its tree: a checkpoint that was exchanged since is not it."""
    workspace_mb: int
    workspace_inodes: int
    lasting: bool
    """Whether the files are to outlive a power cut; a child's go with their session anyway."""

    @property
    def limits(self) -> Limits:
        return Limits(workspace_mb=self.workspace_mb, workspace_inodes=self.workspace_inodes)


def promise(session_dir: Path, source: Path, target: Checkpoint, limits: Limits, *, lasting: bool) -> None:
    """Write down that the workspace is to be made of this checkpoint, which the session has; durable.

    The review of `source` is the new one's too, without what was applied there. CheckpointError when nothing
    went in there, or its changes were discarded.
    """
    told = _Promise(target.number, target.digest, limits.workspace_mb, limits.workspace_inodes, lasting)
    try:
        manifest.share(source, session_dir)
        write_whole(session_dir / PROMISED, json.dumps({"version": _VERSION, **asdict(told)}).encode())
    except FileNotFoundError:
        raise CheckpointError("its changes were discarded, or nothing ever went in") from None
    except OSError as error:
        raise CheckpointError(f"a workspace cannot be promised: {error.strerror or error}") from error


def plant(session_dir: Path) -> None:
    """Make the workspace now where it is promised; nothing stays mounted. SandboxRefused when it cannot be
    made: it stays promised, and the same again begins anew; WorkspaceLost when that would not help.
    """
    told = _read(session_dir)
    if told is None:
        return
    try:
        known = _ground(session_dir, told)
        _fill(session_dir, told, known)
    finally:
        release(session_dir)
    _kept(session_dir)


def begin(session_dir: Path) -> Callable[[], None] | None:
    """The same for a sandbox: storage, mounted, and what fills it while the container starts, to be called
    once. None where there is nothing left to make.
    """
    told = _read(session_dir)
    if told is None:
        return None
    known = _ground(session_dir, told)
    filling = partial(_fill_and_keep, session_dir, told, known)
    if known.mode == "overlay":  # mounted only over what is there
        filling()
        return None
    return filling


def _ground(session_dir: Path, told: _Promise) -> Manifest:
    """Storage, empty and mounted, instead of any that was not filled to its end."""
    with _refusing(told):
        known = manifest.load(session_dir, applied=False)
        remove(session_dir, making=True)
        prepare(session_dir, told.limits, uid=known.uid, gid=known.gid)
        if known.mode == "overlay":
            for made in (upper_of(session_dir), work_of(session_dir)):
                made.mkdir(mode=0o700)
    return known


def _fill(session_dir: Path, told: _Promise, known: Manifest) -> None:
    """What stands in it, and its manifest."""
    fresh: dict[str, os.stat_result] = {}
    with _refusing(told), Store(session_dir) as store:
        target = store.load(told.checkpoint)
        if target.digest != told.digest:
            raise Damaged(f"checkpoint {told.checkpoint} is not the one that was promised")
        had = room(session_dir)
        with opened(session_dir, making=True) as top, beneath.root(top) as here:
            try:
                Restore(store.packs, fresh.__setitem__).run(here, target.root)
            except Damaged:
                refuse_damaged(store, target, f"usermode fork {session_dir.name} --at")
                raise
        # An image takes it all at once, and it is too late when the disk does not.
        refuse_full(session_dir, sum(made.st_blocks for made in fresh.values()) * 512, had)
        entries = dict(known.entries)
        for path in _as_copied(store, target, fresh):
            if path in fresh and path in entries and entries[path].kind == manifest.FILE:
                entries[path] = entries[path].copied_again(fresh[path])
        manifest.save(session_dir, replace(known, entries=entries))
        if told.lasting:
            flush(session_dir)


def _as_copied(store: Store, target: Checkpoint, fresh: Iterable[str]) -> Iterable[str]:
    """Paths of what was written anew, and is still what was copied in: no change."""
    if 0 not in store.numbers():
        return ()
    first = store.load(0).root
    return fresh if first == target.root else same_files(store.packs, first, target.root)


def _fill_and_keep(session_dir: Path, told: _Promise, known: Manifest) -> None:
    _fill(session_dir, told, known)
    _kept(session_dir)


def _kept(session_dir: Path) -> None:
    # The commit point: past here the workspace is the session's, and never made again. Durable before
    # anything runs in it, or what that does would be thrown away after a power cut.
    (session_dir / PROMISED).unlink()
    sync_directory(session_dir)


def _read(session_dir: Path) -> _Promise | None:
    try:
        fields = json.loads((session_dir / PROMISED).read_bytes())
        if fields.pop("version") != _VERSION:
            raise SandboxRefused("the workspace was promised by another version of usermode")
        return _Promise(**fields)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise SandboxRefused(f"what the workspace is to be made of cannot be read: {error}") from error


@contextmanager
def _refusing(told: _Promise) -> Iterator[None]:
    try:
        yield
    except Damaged as error:
        raise WorkspaceLost(f"the workspace cannot be made: {error}") from error
    except (OSError, ValueError, SandboxError, CheckpointError) as error:
        raise SandboxRefused(
            f"no workspace can be made of checkpoint {told.checkpoint}: {error}; try again, or fork another"
        ) from error
