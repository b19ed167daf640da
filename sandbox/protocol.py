"""The sandbox surface: the values that cross it, and the contract every implementation keeps.

`conformance.py` states the contract as checks; Docker on runc, Docker on runsc and the in-memory double pass
them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol

from policies import Policy
from policies.schema import Limits

Stream = Literal["stdout", "stderr"]
FileKind = Literal["file", "directory", "symlink", "fifo", "socket", "device"]


@dataclass(frozen=True)
class SandboxSpec:
    """What to open. The workspace is copied, or used in place where the policy's `workspace.mode` says so."""

    policy: Policy
    image: str | None = None
    """A reference the engine knows; without one, the policy's."""
    workspace: Path | None = None
    state: Path | None = None
    """Directory for the session's files on the host; without one, a temporary directory that goes at the end.
    """
    session: str | None = None
    """Name used in labels and in the container's name; without one, a random one."""
    runtime: Literal["runc", "runsc"] | None = None
    """Without one, the policy's."""
    gate: Gatekeeper | None = None
    """Without one there is no way out, whatever the policy allows."""
    reopen: bool = False
    """Work on with the workspace that is in `state` already, as it stands, instead of preparing one; or that
    is promised there (`checkpoints.planting`), and then its files are made while the container starts.
    """
    image_digest: str | None = None
    """The very image, whatever the reference has come to mean; without one, what it means now."""


@dataclass(frozen=True)
class Command:
    argv: Sequence[str]
    cwd: str | None = None
    """Absolute path inside; without one, `/workspace`. A missing directory is an error of the call."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Added to the sandbox's own allow-listed environment."""
    stdin: bytes | None = b""
    """All of standard input; None leaves it open for `Process.send`."""
    timeout_s: float | None = None
    """Without one, the policy's `command_s`."""
    user: str | None = None
    output_bytes: int = 1 << 20
    """Kept from each stream: exact up to this, beyond it half head and half tail."""
    tty: tuple[int, int] | None = None
    """Rows and columns of a terminal to run under; then stderr is empty and stdout carries both."""
    call_id: str | None = None
    """16 hex digits, at least 2**32. Executed at most once in a sandbox's life; without one, a random one."""


@dataclass(frozen=True)
class Rusage:
    user_s: float
    system_s: float
    max_rss_bytes: int


@dataclass(frozen=True)
class Completed:
    exit_code: int
    """0..255; 128 + the signal's number when a signal ended it; 127 no such program, 126 not executable."""
    signal: int | None
    stdout: bytes
    stderr: bytes
    stdout_total: int
    """Bytes written, counted also where they were not kept."""
    stderr_total: int
    timed_out: bool
    cancelled: bool
    oom_killed: bool
    """A process of the sandbox was killed for memory while this call ran."""
    disk_exceeded: bool
    """Stopped because the workspace outgrew its limit, or the host's disk is nearly full."""
    spill: Mapping[Stream, str]
    """Paths inside the sandbox that hold the output beyond `output_bytes`, up to the policy's `spill_bytes`.
    """
    duration_s: float
    rusage: Rusage
    jobs: int
    """Processes of this call that live on."""

    @property
    def truncated(self) -> bool:
        return self.stdout_total > len(self.stdout) or self.stderr_total > len(self.stderr)


@dataclass(frozen=True)
class Chunk:
    stream: Stream
    data: bytes


@dataclass(frozen=True)
class FileStat:
    path: str
    kind: FileKind
    size: int
    mode: int
    """Permission bits, 0o7777 at most."""
    mtime_ns: int
    target: str | None = None
    """Of a symlink."""


@dataclass(frozen=True)
class Origin:
    """Who inside opened a connection, as init read it from the kernel at that moment."""

    call_id: str | None
    """The call from which the process descends, also as a job; None where it could not be told."""
    pid: int | None
    program: str = ""
    """Its words, joined by spaces, at most 256 bytes: hostile text."""


class Connection(Protocol):
    """A byte stream to or from a program inside, over the wire. Each direction has a window of its own."""

    @property
    def origin(self) -> Origin: ...

    async def receive(self) -> bytes:
        """The next bytes from inside, at most 64 KiB; b"" when that side has said all. ConnectionError when
        it broke."""

    async def send(self, data: bytes) -> None:
        """To the program inside; waits while it does not read. ConnectionError once nobody can read it."""

    async def end(self) -> None:
        """Nothing more will be sent; what the other side says is still received."""

    def abort(self) -> None:
        """Let go of it at once, both ways. Idempotent."""


class Gatekeeper(Protocol):
    """Where connections out of a sandbox lead: the only way out there is."""

    @property
    def port(self) -> int:
        """On the loopback inside."""

    @property
    def environment(self) -> Mapping[str, str]:
        """What tells the programs inside where the gate is."""

    @property
    def files(self) -> Mapping[str, bytes]:
        """Files that are put inside before the first command: certificates."""

    async def serve(self, connection: Connection) -> None:
        """Carry one connection to its end. Must not raise, except when it is cancelled."""


class Process(Protocol):
    """A running command whose streams are carried as they come."""

    @property
    def call_id(self) -> str: ...

    async def send(self, data: bytes) -> None:
        """Write to standard input; waits while the command does not read. BrokenPipeError once it has closed
        it.
        """

    async def close_stdin(self) -> None: ...

    def __aiter__(self) -> AsyncIterator[Chunk]:
        """Output in order per stream, until the command has ended and all of it was carried."""

    async def wait(self) -> Completed:
        """The result; stdout and stderr hold nothing (they were carried as chunks), the totals count them."""

    async def signal(self, number: int) -> None:
        """To the main process's group."""

    async def kill(self) -> None:
        """End the whole descent: TERM, grace, KILL."""

    async def resize(self, rows: int, columns: int) -> None: ...


@dataclass(frozen=True)
class Progress:
    """What a running captured call has shown so far."""

    stdout: bytes
    """The last bytes of each stream."""
    stderr: bytes
    stdout_total: int
    stderr_total: int
    running: bool


class Sandbox(Protocol):
    """One contained session. Every method raises SandboxGone once the container has ended.

    File methods raise FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError,
    FileExistsError, or
    OSError with the guest's errno; paths are absolute, resolved inside the container by the sandbox user.
    """

    ref: str
    """What `attach_sandbox` takes."""

    async def run(self, command: Command) -> Completed:
        """Run to the end. Cancelling the awaiting task ends the command's descent first.

        ValueError for a command that cannot be asked for (NUL byte, over 128 KiB of arguments), Busy when the
        sandbox has no process left to give.
        """

    def spawn(self, command: Command) -> SpawnContext:
        """`async with box.spawn(command) as process:`; leaving the block ends what still runs."""

    async def start(self, command: Command) -> str:
        """Begin a captured call and return its call id at once; `result` fetches its outcome."""

    async def result(self, call_id: str, *, keep: bool = False) -> Completed:
        """Wait for a started call; KeyError if unknown. Returning it releases the sandbox's own record of it.

        With `keep` the record stays until `release`: journal the outcome first, and a crash in between loses
        nothing.
        """

    async def release(self, call_id: str) -> None:
        """Let the sandbox forget a kept result. No error when there is none."""

    async def progress(self, call_id: str, tail_bytes: int = 4096) -> Progress:
        """The last output of a started call without waiting for it. KeyError if unknown."""

    async def send_stdin(self, call_id: str, data: bytes, *, close: bool = False) -> None:
        """To a call started with `stdin=None`."""

    async def kill(self, call_id: str) -> None:
        """End a call's whole descent, its jobs included. No error when nothing of it runs."""

    async def jobs(self) -> Mapping[str, int]:
        """Call ids that have living processes, with their number."""

    async def listen(self, port: int, serve: Callable[[Connection], Awaitable[None]]) -> None:
        """Take connections to this port of the loopback inside; each is served in a task of its own.

        Once `serve` returns, what was sent is still delivered and the connection closed; if it raises or is
        cancelled, the program sees a reset. OSError(EADDRINUSE) when the port is taken. It ends with the
        sandbox.
        """

    async def connect(self, port: int) -> Connection:
        """To a program that listens on the loopback inside. ConnectionRefusedError when none does, Busy when
        no more connections can be had."""

    async def read_file(self, path: str, offset: int = 0, limit: int | None = None) -> bytes:
        """Regular files only; ValueError for a FIFO, socket or device, OSError(EFBIG) past the policy's
        `file_bytes`.
        """

    async def write_file(
        self,
        path: str,
        data: bytes,
        mode: int | None = None,
        expect: str | None = None,
        parents: bool = False,
    ) -> None:
        """Replace atomically. `mode` is kept from an existing file when not given, else 0o644.

        `expect` is the SHA-256 hex digest of the present content, or "" for "must not exist"; otherwise
        FileExistsError (it exists, or differs). A symlink as the last component is refused with
        OSError(ELOOP).
        """

    async def stat(self, path: str) -> FileStat:
        """Of the path itself, symlinks not followed."""

    async def list_dir(self, path: str) -> list[FileStat]:
        """Entries of one directory, sorted by name."""

    @property
    def adjustable(self) -> frozenset[str]:
        """Which limits of the policy `adjust` can change while this sandbox runs; none under gVisor."""

    async def adjust(self, limits: Limits) -> None:
        """Hold it to these from now on, as far as they are `adjustable`; they hold when this returns.

        SandboxRefused when they are not taken: then those of before hold.
        """

    async def detach(self) -> str:
        """Let go of the wire and leave the container running; returns `ref`."""

    async def close(self) -> None:
        """End the container. Idempotent."""


class SpawnContext(Protocol):
    async def __aenter__(self) -> Process: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> bool | None: ...
