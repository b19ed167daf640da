"""Images made from a handful of files, for tests: the smallest of userlands, and hostile ones."""

from __future__ import annotations

import io
import secrets
import tarfile
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from sandbox.engine import Engine

DIRECTORY = object()
Content = bytes | str | object
"""A program's bytes (mode 0755), where a symlink leads, or DIRECTORY."""


def archive(files: Mapping[str, Content]) -> bytes:
    """A root file system; everything is root's, directories are 0755."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, content in files.items():
            member = tarfile.TarInfo(path.strip("/"))
            member.mode = 0o755
            if content is DIRECTORY:
                member.type = tarfile.DIRTYPE
                tar.addfile(member)
            elif isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                tar.addfile(member)
            else:
                assert isinstance(content, bytes)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@asynccontextmanager
async def image_of(
    files: Mapping[str, Content], where: Path, changes: Iterable[str] = ()
) -> AsyncIterator[str]:
    """The reference of an image that is gone afterwards. `changes` are Dockerfile instructions."""
    reference = f"usermode-test/{secrets.token_hex(6)}:latest"
    tar = where / "image.tar"
    tar.write_bytes(archive(files))
    engine = await Engine.connect()
    try:
        await engine.import_tar(tar, reference, changes)
        try:
            yield reference
        finally:
            await engine.remove_image(reference)
    finally:
        await engine.close()
