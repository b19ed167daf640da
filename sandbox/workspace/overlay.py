"""Overlay: the user's directory as a read-only layer, and over it a private one that takes what is written.

It is there at once, whatever its size in bytes: files are looked into, not copied. What a copy would leave
out is hidden by whiteouts, which are made in the upper layer before anything is mounted; the kernel gives no
way back through one, to the guest or to anybody else who looks at the merged tree. Layers are named by
descriptors, so that no link is followed and no path of the host shows in the container's table of mounts.

The lower layer is live: a file that the user adds or alters while the session runs may be seen by it.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sandbox.errors import SandboxRefused
from sandbox.workspace import beneath, manifest, mounts
from sandbox.workspace.copyfile import FileCopier, Rules
from sandbox.workspace.copyin import CopyReport
from sandbox.workspace.layout import tree_of, upper_of, work_of
from sandbox.workspace.manifest import Manifest
from sandbox.workspace.pinned import pinned
from sandbox.workspace.scan import is_opaque
from sandbox.workspace.survey import Cleaned, Found, Survey, cleaned_entry

_WHITEOUT = stat.S_IFCHR
"""With device number 0: the mark by which an overlay hides a name of the layers below."""
# Nothing of a layer's own metadata is to steer the kernel, and a copy that was opened for writing is whole.
_OPTIONS = "nosuid,nodev,noatime,redirect_dir=nofollow,metacopy=off,index=off,xino=off"
_NAMED = 5
"""Paths that a refusal names."""


@dataclass(frozen=True)
class Under:
    """The user's directory, as a session may see it beneath what that writes."""

    source: Path
    uid: int
    gid: int
    exclude: Sequence[str] = ()
    """gitignore patterns, like those of `include`; which `copy_in` tells."""
    include: Sequence[str] = ()
    own: Sequence[Path] = ()
    """As `pinned` has it."""


def lay_over(under: Under, session_dir: Path) -> CopyReport:
    """Mount the directory with the session's prepared storage over it, and write the manifest.

    SandboxRefused where this process cannot mount, or not this; nothing stays mounted then.
    """
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        raise SandboxRefused("workspace mode overlay needs root on Linux; use workspace mode copy")
    with _surveyed(under, session_dir) as (lower, path, found):
        for made in (upper_of(session_dir), work_of(session_dir)):
            made.mkdir(mode=0o700)
        with beneath.root(upper_of(session_dir)) as upper:
            _like(upper, os.fstat(lower))
            try:
                _fill(lower, upper, found)
            except OSError as error:
                raise SandboxRefused(f"the overlay of the workspace cannot be prepared: {error}") from error
        entries = dict(sorted(found.entries.items()))
        hidden = sorted(found.hidden)
        known = Manifest(path, under.uid, under.gid, entries, found.targets, hidden, mode="overlay")
        manifest.save(session_dir, known)
        _mount(session_dir, lower)
    rewritten = tuple(sorted(cleaned.path for cleaned in found.cleaned))
    return CopyReport(len(entries), 0, tuple(hidden), rewritten, "overlay")


def lay_again(under: Under, session_dir: Path) -> None:
    """Mount the directory beneath what an earlier container of the session wrote.

    SandboxRefused as `lay_over`, and where something lies there by now that the session must not see: what it
    wrote itself cannot be told from a mark of ours, so nothing more is hidden beneath it.
    """
    with _surveyed(under, session_dir) as (lower, path, found):
        with beneath.root(upper_of(session_dir)) as upper:
            secret = [*(hidden for hidden, _ in found.hidden), *(cleaned.path for cleaned in found.cleaned)]
            seen = sorted(name for name in secret if not _covered(upper, name))
        if seen:
            named = ", ".join(seen[:_NAMED]) + (", …" if len(seen) > _NAMED else "")
            raise SandboxRefused(
                f"in {path} lies by now what this session must not see: {named}; move it away while the "
                "session goes on, or begin another one"
            )
        # What was mounted before may be over a directory that stood here then.
        if mounts.is_mounted(tree_of(session_dir)):
            mounts.unmount(tree_of(session_dir))
        _mount(session_dir, lower)


@contextmanager
def _surveyed(under: Under, session_dir: Path) -> Iterator[tuple[int, Path, Found]]:
    """The directory, open; its path without links; and what of it the session may see."""
    with pinned(under.source, [session_dir, *under.own]) as (lower, path):
        top = os.fstat(lower)
        if top.st_uid != under.uid:
            raise SandboxRefused(
                f"{path} belongs to user {top.st_uid}, and the session runs as user {under.uid}"
            )
        survey = Survey(FileCopier(Rules.of(under.exclude, under.include), top, under.uid, under.gid), top)
        survey.directory(lower, "", 0)
        yield lower, path, survey.found


def _covered(upper: int, path: str) -> bool:
    """Whether the upper layer keeps what lies at `path` of the lower one from being seen."""
    *directories, name = beneath.components(path)
    here = os.dup(upper)
    try:
        for component in directories:
            status = beneath.look(here, component)
            if status is None:
                return False
            if not stat.S_ISDIR(status.st_mode):
                return True
            below = beneath.enter(here, component)
            os.close(here)
            here = below
            if is_opaque(here):
                return True
        last = beneath.look(here, name)
        # A directory is merged with one below it, unless it is opaque.
        return last is not None and (not stat.S_ISDIR(last.st_mode) or _opaque_at(here, name))
    finally:
        os.close(here)


def _opaque_at(parent: int, name: str) -> bool:
    here = beneath.enter(parent, name)
    try:
        return is_opaque(here)
    finally:
        os.close(here)


def _fill(lower: int, upper: int, found: Found) -> None:
    """What the upper layer holds at first: whiteouts, and files without their credentials."""
    for hidden, _ in found.hidden:
        with _shadowed(lower, upper, hidden) as (parent, name):
            os.mknod(name, _WHITEOUT, os.makedev(0, 0), dir_fd=parent)
    for cleaned in found.cleaned:
        with _shadowed(lower, upper, cleaned.path) as (parent, name):
            found.entries[cleaned.path] = cleaned_entry(cleaned, _put(parent, name, cleaned))


@contextmanager
def _shadowed(lower: int, upper: int, path: str) -> Iterator[tuple[int, str]]:
    """The upper layer's directory that is to hold `path`, like the lower's where it has to be made."""
    *directories, name = beneath.components(path)
    below, above = os.dup(lower), os.dup(upper)
    try:
        for component in directories:
            if beneath.look(above, component) is None:
                os.mkdir(component, 0o700, dir_fd=above)
                _timed(above, os.fstat(below))
            below = _down(below, component)
            above = _down(above, component)
            _like(above, os.fstat(below))
        yield above, name
        # Last, since a name that is made in a directory moves its times.
        _timed(above, os.fstat(below))
    finally:
        os.close(below)
        os.close(above)


def _down(parent: int, name: str) -> int:
    here = beneath.enter(parent, name)
    os.close(parent)
    return here


def _like(descriptor: int, status: os.stat_result) -> None:
    os.fchown(descriptor, status.st_uid, status.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(status.st_mode) & 0o777)
    _timed(descriptor, status)


def _timed(descriptor: int, status: os.stat_result) -> None:
    os.utime(descriptor, ns=(status.st_mtime_ns, status.st_mtime_ns))


def _put(parent: int, name: str, cleaned: Cleaned) -> os.stat_result:
    target = os.open(name, beneath.NEW_FILE, 0o600, dir_fd=parent)
    try:
        beneath.write_all(target, cleaned.content)
        _like(target, cleaned.status)
        return os.fstat(target)
    finally:
        os.close(target)


def _mount(session_dir: Path, lower: int) -> None:
    with beneath.root(upper_of(session_dir)) as upper, beneath.root(work_of(session_dir)) as work:
        layers = ",".join(
            f"{name}=/proc/self/fd/{layer}"
            for name, layer in (("lowerdir", lower), ("upperdir", upper), ("workdir", work))
        )
        options = f"{_OPTIONS},{layers}"
        arguments = ("-t", "overlay", "-o", options, "--", "overlay", str(tree_of(session_dir)))
        mounts.run("mount", *arguments, descriptors=(lower, upper, work))
