"""`read`: a text file as numbered lines, or a directory as a list. Bounded in lines and in bytes."""

from __future__ import annotations

from pydantic import Field

from harness.syscalls.base import Access, Arguments, Context, Outcome, Refused, resolve
from harness.syscalls.faults import told
from harness.syscalls.output import decoded
from sandbox.protocol import FileStat

CHUNK = 1 << 20
LINE_BYTES = 2_000
"""Shown of one line."""
MAX_ENTRIES = 1_000
SNIFF = 8_192
"""Bytes looked at to tell text from binary."""


class Read(Arguments):
    path: str = Field(min_length=1, description="File or directory.")
    offset: int = Field(1, ge=1, description="First line wanted, counted from 1.")
    limit: int = Field(2_000, ge=1, le=100_000, description="Lines at most.")


def access(arguments: Read, cwd: str) -> Access:
    path = resolve(arguments.path, cwd)
    return Access(reads=(path,), path=path)


async def read(context: Context, arguments: Read) -> Outcome:
    path = resolve(arguments.path, context.cwd)
    box = context.sandbox
    with told(path):
        try:
            first = await box.read_file(path, 0, CHUNK)
        except IsADirectoryError:
            return _listing(path, await box.list_dir(path))
        if b"\0" in first[:SNIFF]:
            size = (await box.stat(path)).size
            raise Refused(
                "not_text", f"{path}: a binary file ({size:,} bytes); look at it with `bash`, e.g. `od`"
            )
        window = _Window(arguments, context.limits.output_bytes)
        position, chunk = 0, first
        while window.take(chunk, last=len(chunk) < CHUNK):
            position += len(chunk)
            chunk = await box.read_file(path, position, CHUNK)
    return Outcome(window.text(path), None, {"path": path, "lines": window.shown})


class _Window:
    """Picks the wanted lines out of a file that arrives in pieces."""

    def __init__(self, wanted: Read, budget: int) -> None:
        self.shown = 0
        self._wanted = wanted
        self._budget = budget
        self._line = 1
        self._rest = b""
        self._long = 0
        self._lines: list[str] = []
        self._stopped = ""
        self._empty = True

    def take(self, chunk: bytes, *, last: bool) -> bool:
        """Take the next piece; False when no more is wanted."""
        self._empty = self._empty and not chunk
        lines = (self._rest + chunk).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            if not self._add(line):
                return False
        if last:
            if self._rest:
                self._add(self._rest)
            return False
        if len(self._rest) > LINE_BYTES:
            # Of a line without end only the beginning is kept, and its length.
            self._long += len(self._rest) - LINE_BYTES
            self._rest = self._rest[:LINE_BYTES]
        return True

    def text(self, path: str) -> str:
        if self._empty:
            return f"[{path} is empty]"
        total = self._line - 1
        if not self._lines and not self._stopped:
            return f"[{path} has {total:,} lines; line {self._wanted.offset:,} is past its end]"
        return "\n".join([*self._lines, self._stopped] if self._stopped else self._lines)

    def _add(self, line: bytes) -> bool:
        number, self._line = self._line, self._line + 1
        left_out, self._long = self._long + max(0, len(line) - LINE_BYTES), 0
        if number < self._wanted.offset:
            return True
        shown = decoded(line[:LINE_BYTES].removesuffix(b"\r"))
        if left_out:
            shown += f" [… {left_out:,} more bytes in this line …]"
        self._budget -= len(shown) + 7
        if self.shown == self._wanted.limit or (self._budget < 0 and self.shown):
            self._stopped = f"[more lines follow; go on with offset {number:,}]".replace(",", "")
            return False
        self._lines.append(f"{number:6d}\t{shown}")
        self.shown += 1
        return True


def _listing(path: str, entries: list[FileStat]) -> Outcome:
    lines = [f"{_mark(entry)}" for entry in entries[:MAX_ENTRIES]]
    if len(entries) > MAX_ENTRIES:
        lines.append(f"[… {len(entries) - MAX_ENTRIES:,} more entries; `glob` narrows them down]")
    body = "\n".join(lines) or "[no entries]"
    return Outcome(f"{path} is a directory:\n{body}", None, {"path": path, "entries": len(entries)})


def _mark(entry: FileStat) -> str:
    name = entry.path.rsplit("/", 1)[-1]
    if entry.kind == "file":
        return f"{name}  {entry.size:,} bytes"
    if entry.kind == "symlink":
        return f"{name} -> {entry.target}"
    return f"{name}/" if entry.kind == "directory" else f"{name}  ({entry.kind})"
