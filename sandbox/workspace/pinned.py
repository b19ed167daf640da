"""A workspace that is used in place (overlay, bind): which directories may be, and a hold on the one meant.

A copy of `/etc` would be harmless; the directory itself, or a live view of it, is not. So these modes take a
project's directory and refuse what a system, a home or this program lives in, and whatever holds one of
those. Every component of the path is opened without following links: what was looked at is what is used.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sandbox.errors import SandboxRefused
from sandbox.workspace import beneath

_SYSTEM = (
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/run", "/sbin", "/sys",
    "/usr", "/var/backups", "/var/cache", "/var/lib", "/var/log", "/var/run", "/var/spool", "/Library",
    "/System",
)  # fmt: skip
"""Neither these nor anything in them."""
_SHARED = (
    "/home",
    "/media",
    "/mnt",
    "/opt",
    "/private",
    "/root",
    "/srv",
    "/tmp",
    "/Users",
    "/var",
    "/var/tmp",
)
"""Not these themselves, since others' files lie in them."""
_HOLDINGS = (".ssh", ".gnupg", ".aws", ".config", ".local", ".cache", ".docker", ".kube")
"""Of a home directory: neither these nor anything in them."""


@contextmanager
def pinned(source: Path, own: Sequence[Path]) -> Iterator[tuple[int, Path]]:
    """The open directory and its path without links. `own` are directories of this program and its engine.

    SandboxRefused for a path that runs over a symlink, or for a directory that may not be used in place.
    """
    if not source.is_absolute() or ".." in source.parts:
        raise SandboxRefused(f"the workspace {source} needs to be given by its absolute path")
    here = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for component in source.parts[1:]:
            try:
                below = beneath.enter(here, component)
            except beneath.LinkOnTheWay:
                raise SandboxRefused(
                    f"the path of the workspace {source} runs over the symlink {component!r}; "
                    "give the path without links"
                ) from None
            except OSError as error:
                raise SandboxRefused(f"the workspace {source} cannot be opened: {error.strerror}") from error
            os.close(here)
            here = below
        if reason := danger(source, own):
            raise SandboxRefused(f"{source} is not used in place: {reason}; use workspace mode copy")
        yield here, source
    finally:
        os.close(here)


def danger(source: Path, own: Sequence[Path]) -> str | None:
    """Why a directory may not be used in place; None for a project's. Links are resolved in what it is
    compared with, never in `source`.
    """
    if source == Path("/"):
        return "it is the whole machine"
    for path in map(_real, _SYSTEM):
        if path in (source, *source.parents):
            return f"it belongs to the system ({path})"
    if source in map(_real, _SHARED):
        return "it holds more than one project"
    home = _real(os.environ.get("HOME") or Path.home())
    if home != Path("/"):
        if source in (home, *home.parents):
            return "it is, or holds, your home directory"
        for name in _HOLDINGS:
            if home / name in (source, *source.parents):
                return f"it belongs to your settings and keys ({home / name})"
    for path in map(_real, own):
        if path in (source, *source.parents) or source in path.parents:
            return f"it holds, or lies in, the files of usermode or of the engine ({path})"
    return None


def _real(path: str | os.PathLike[str]) -> Path:
    return Path(os.path.realpath(path))
