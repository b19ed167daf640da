"""The journal's reserve: room kept on the disk for what has already happened, when none is left.

A file of the session's directory that holds nothing. It is given up once, on a full disk; opening the journal
again sets it aside anew, so a session goes on only where there is room again.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

FILE = "reserve"
BYTES = 1 << 20
"""The outcomes of calls that were under way, and the session's end."""
_UNABLE = frozenset({errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS})


class Reserve:
    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE
        self.spent = False
        """Given up: nothing may be begun any more."""

    def set_aside(self) -> None:
        """OSError where the disk has not even that much. A file system that cannot reserve goes without."""
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.posix_fallocate(fd, 0, BYTES)
        except OSError as exc:
            self.release()
            if exc.errno not in _UNABLE:
                raise
        finally:
            os.close(fd)

    def give_up(self) -> bool:
        """Make its room free for the journal. False when that was done before, or there is none."""
        if self.spent:
            return False
        self.spent = True
        try:
            self._path.unlink()
        except OSError:
            return False
        return True

    def release(self) -> None:
        with contextlib.suppress(OSError):
            self._path.unlink()
