"""From the sandbox's exceptions to what the model is told: a stable code, what happened, what to do next."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from harness.syscalls.base import Code, Refused
from sandbox.errors import Busy, SandboxError

_BY_ERRNO: dict[int, tuple[Code, str]] = {
    errno.ENOENT: ("not_found", "there is no such file or directory; `glob` finds names"),
    errno.EACCES: ("permission", "the sandbox user may not do this"),
    errno.EPERM: ("permission", "the sandbox user may not do this"),
    errno.EROFS: (
        "permission",
        "this part of the file system is read-only; the workspace and /tmp are writable",
    ),
    errno.EISDIR: ("is_directory", "this is a directory"),
    errno.ENOTDIR: ("not_directory", "a part of this path is not a directory"),
    errno.EEXIST: ("conflict", "it exists, or has changed since it was read; read it again"),
    errno.ENOSPC: ("disk_full", "no space is left; remove something before writing more"),
    errno.EDQUOT: ("disk_full", "the session's disk quota is used up; remove something before writing more"),
    errno.EFBIG: ("too_large", "the file is larger than the session carries; take part of it with `bash`"),
    errno.ELOOP: ("symlink", "this is a symbolic link; name the file that it points to"),
    errno.ENAMETOOLONG: ("bad_arguments", "the name is too long"),
    errno.ETXTBSY: ("busy", "a program is being run from this file; write a new one and rename it"),
}
_BY_TYPE: tuple[tuple[type[OSError], int], ...] = (
    (FileNotFoundError, errno.ENOENT),
    (PermissionError, errno.EACCES),
    (IsADirectoryError, errno.EISDIR),
    (NotADirectoryError, errno.ENOTDIR),
    (FileExistsError, errno.EEXIST),
)


@contextmanager
def told(path: str) -> Iterator[None]:
    """Turn what a file operation on `path` raises into Refused; a sandbox that is gone stays what it is."""
    with guarded(path):
        try:
            yield
        except ValueError as exc:
            text = f"{path}: only regular files can be read and written ({exc})"
            raise Refused("special_file", text) from exc


@contextmanager
def guarded(path: str) -> Iterator[None]:
    """The same for everything but ValueError, which elsewhere is our own mistake."""
    try:
        yield
    except Busy as exc:
        raise Refused("busy", f"{path}: {exc}; try again, or end a job first") from exc
    except SandboxError:
        raise  # SandboxGone is an OSError too.
    except OSError as exc:
        number = exc.errno or next((known for kind, known in _BY_TYPE if isinstance(exc, kind)), 0)
        code, hint = _BY_ERRNO.get(number, ("failed", exc.strerror or "the operation failed"))
        raise Refused(code, f"{path}: {hint}") from exc
