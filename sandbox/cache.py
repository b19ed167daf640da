"""Where what can be made again is kept: `$USERMODE_HOME/cache`, or the cache directory of the user."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator
from pathlib import Path

import platformdirs


def cache_dir() -> Path:
    home = os.environ.get("USERMODE_HOME")
    return Path(home).absolute() / "cache" if home else Path(platformdirs.user_cache_dir("usermode"))


@contextlib.asynccontextmanager
async def exclusively(name: str) -> AsyncIterator[None]:
    """One process of this user at a time; the others wait. A process that dies lets go."""
    directory = cache_dir()
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(directory / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while not _taken(descriptor):  # noqa: ASYNC110 - another process tells nobody when it lets go
            await asyncio.sleep(0.2)
        yield
    finally:
        os.close(descriptor)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
