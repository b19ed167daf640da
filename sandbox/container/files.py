"""Files over the wire: read, write, stat and list, done by init as the sandbox user."""

from __future__ import annotations

import asyncio
import stat
from typing import Final

from sandbox.protocol import FileKind, FileStat
from sandbox.wire.channel import Channel, Fault, errno_to_exception
from sandbox.wire.frames import END, FRAME_MAX, WHOLE, Request, WriteFlag
from sandbox.wire.payloads import Facts, read_request, write_request

AT_ONCE = 16
LIST_BYTES = 256 << 20
_KINDS: Final[dict[int, FileKind]] = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}


class Files:
    """The file half of a sandbox. At most AT_ONCE at a time, so that init's slots never run out."""

    def __init__(self, channel: Channel, file_bytes: int) -> None:
        self._channel = channel
        self._file_bytes = file_bytes
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def read(self, path: str, offset: int, limit: int | None) -> bytes:
        if offset < 0 or (limit is not None and limit < 0):
            raise ValueError("offset and limit are not negative")
        most = self._file_bytes if limit is None else min(limit, self._file_bytes)
        whole = limit is None or limit > self._file_bytes
        request = read_request(_path(path), offset, most)
        return await self._ask(Request.READ, path, request, flag=WHOLE if whole else 0, limit=most)

    async def write(
        self, path: str, data: bytes, mode: int | None, expect: str | None, parents: bool
    ) -> None:
        if mode is not None and not 0 <= mode <= 0o777:
            raise ValueError("a mode is permission bits, 0o777 at most")
        if len(data) > self._file_bytes:
            raise OSError(27, f"more than the policy's file_bytes ({self._file_bytes})", path)  # EFBIG
        flags = WriteFlag.PARENTS if parents else 0
        digest = b""
        if mode is None:
            flags |= WriteFlag.KEEP_MODE
        if expect == "":
            flags |= WriteFlag.MUST_NOT_EXIST
        elif expect is not None:
            flags |= WriteFlag.MUST_MATCH
            digest = bytes.fromhex(expect)
            if len(digest) != 32:
                raise ValueError("expect is a SHA-256 in hex, or empty for `must not exist`")
        head = write_request(_path(path), 0o644 if mode is None else mode, flags, digest)
        room = FRAME_MAX - len(head)
        whole = len(data) <= room
        await self._ask(
            Request.WRITE,
            path,
            head + data[:room],
            flag=END if whole else 0,
            rest=b"" if whole else data[room:],
        )

    async def stat(self, path: str) -> FileStat:
        payload = await self._ask(Request.STAT, path, _path(path) + b"\0")
        return _file_stat(Facts.decode_all(payload)[0], path)

    async def list(self, path: str) -> list[FileStat]:
        payload = await self._ask(Request.LIST, path, _path(path) + b"\0", limit=LIST_BYTES)
        base = path.rstrip("/")
        found = (_file_stat(facts, f"{base}/{_text(facts.name)}") for facts in Facts.decode_all(payload))
        return sorted(found, key=lambda entry: entry.path)

    async def _ask(
        self,
        kind: Request,
        path: str,
        payload: bytes,
        *,
        flag: int = 0,
        limit: int = FRAME_MAX,
        rest: bytes = b"",
    ) -> bytes:
        async with self._slots:
            try:
                return await self._channel.ask(kind, payload, flag=flag, limit=limit, rest=rest)
            except Fault as fault:
                raise errno_to_exception(fault, path) from None


def _path(path: str) -> bytes:
    data = path.encode("utf-8", "surrogateescape")
    if not path.startswith("/"):
        raise ValueError(f"{path!r} is not an absolute path inside the sandbox")
    if b"\0" in data:
        raise ValueError("a NUL byte cannot be part of a path")
    if len(data) > 4095:
        raise OSError(36, "File name too long", path[:100])  # ENAMETOOLONG
    return data


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _file_stat(facts: Facts, path: str) -> FileStat:
    kind = _KINDS.get(stat.S_IFMT(facts.mode), "device")
    target = _text(facts.target) if kind == "symlink" else None
    return FileStat(path, kind, facts.size, stat.S_IMODE(facts.mode), facts.mtime_ns, target)
