"""Root commands: run beside what runs in a container, as uid 0 with the policy's capabilities and no others.

Init has no privilege, so the engine starts a second copy of it, which keeps the command apart from whoever
ends it (images/init/rootrun.c). Words, environment and input of the command go over standard input: what the
engine shows of it is `init root`, whatever the command holds. This is the one use of the engine's exec, and
it costs what that costs.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import secrets
import struct
from collections.abc import Awaitable, Callable

from policies.filters import seccomp_profile
from policies.schema import Capability, Container, SeccompProfile
from sandbox.container.bpf import assembled
from sandbox.container.calls import spawn_error
from sandbox.engine import Engine
from sandbox.errors import Busy, EngineFailed, SandboxGone, SandboxRefused, WireError
from sandbox.hardening import INIT, mask_of
from sandbox.protocol import Completed, Rusage
from sandbox.wire.attach import Attachment
from sandbox.wire.channel import Fault
from sandbox.wire.payloads import Spawn

BEYOND_S = 20.0
"""For a command to be ended after its time and grace; then whoever should have done that is given up."""
LAST_S = 2.0
"""For the engine to say that the keeper has ended, after its last record."""
GREETING = b"usermode-root-1\n"
_KEY_BYTES = 16
_RECORD = struct.Struct("<II8s")
_END = struct.Struct("<iiIIQQQQ")
_OUT, _ERR, _ENDED = 1, 2, 3
_RECORD_MAX = 65_536
_TIMED_OUT, _CANCELLED, _OOM, _NEVER_BEGAN, _NOT_ENDED = 1, 2, 4, 8, 16
_COMPLAINT_BYTES = 2048


class RootCommands:
    """Those of one container. `lost` ends the container: a descent that nobody watches must not live on."""

    def __init__(self, engine: Engine, container: str, lost: Callable[[], Awaitable[None]]) -> None:
        self._engine = engine
        self._container = container
        self._lost = lost
        self._running: dict[str, _Run] = {}
        self._used: set[str] = set()
        self._runtime: str | None = None

    async def run(self, call_id: str, spawn: Spawn, container: Container) -> Completed:
        """To its end; nothing of its descent is left then. Cancelling the awaiting task ends it first.

        OSError when its directory cannot be entered, Busy, EngineFailed or SandboxRefused when nothing of it
        was begun, SandboxGone when the container had to be ended.
        """
        if call_id in self._used:
            raise SandboxRefused(f"call {call_id} was already executed")
        key = secrets.token_bytes(_KEY_BYTES)
        _request(spawn, container.capabilities, key, b"")  # ValueError before anything is used up
        self._used.add(call_id)
        request = _request(spawn, container.capabilities, key, await self._program(container.seccomp))
        run = _Run(spawn.output_bytes, key)
        self._running[call_id] = run
        try:
            return await self._watched(run, request, (spawn.timeout_ms + spawn.grace_ms) / 1000)
        finally:
            del self._running[call_id]

    async def _program(self, profile: SeccompProfile) -> bytes:
        """The session's filter, where the engine's exec leaves it out: gVisor's does."""
        if self._runtime is None:
            try:
                self._runtime = str((await self._engine.inspect(self._container))["HostConfig"]["Runtime"])
            except KeyError:
                raise SandboxGone("the sandbox is gone: its container has ended") from None
        return b"" if self._runtime == "runc" else assembled(seccomp_profile(profile), os.uname().machine)

    async def _watched(self, run: _Run, request: bytes, most_s: float) -> Completed:
        try:
            exec_id = await self._engine.prepare_exec(self._container, (INIT, "root"))
        except KeyError:
            raise SandboxGone("the sandbox is gone: its container has ended") from None
        attachment = await Attachment.open_exec(
            self._engine.address, exec_id, received=run.received, closed=run.closed
        )
        run.attachment = attachment
        attachment.write(request)
        ending = asyncio.create_task(self._ended(run, most_s), name="root command")
        try:
            return await asyncio.shield(ending)
        except asyncio.CancelledError:
            attachment.end()
            with contextlib.suppress(Exception):
                await asyncio.shield(ending)
            raise

    async def _ended(self, run: _Run, most_s: float) -> Completed:
        attachment = run.attachment
        assert attachment is not None
        try:
            async with asyncio.timeout(most_s + BEYOND_S):
                completed = await run.done
            if not run.left_behind:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LAST_S):
                        await run.over.wait()  # so that its keeper, too, has gone
                return completed
        except (TimeoutError, WireError):
            if not run.greeted and run.done.done():
                raise
        finally:
            attachment.close()
        # Whatever became of its keeper, nothing that had privilege may go on unwatched.
        await self._lost()
        raise SandboxGone("what watched over a root command was lost, so its sandbox was ended")

    def end(self, call_id: str, *, disk_exceeded: bool = False) -> bool:
        """Whether there was such a command to end."""
        run = self._running.get(call_id)
        if run is None:
            return False
        run.disk_exceeded = run.disk_exceeded or disk_exceeded
        if run.attachment is not None:
            run.attachment.end()
        return True

    def end_all(self, *, disk_exceeded: bool) -> None:
        for call_id in self._running:
            self.end(call_id, disk_exceeded=disk_exceeded)


def _request(spawn: Spawn, capabilities: tuple[Capability, ...], key: bytes, program: bytes) -> bytes:
    body = spawn.body()
    return struct.pack("<IIQ", len(body), len(program) // 8, mask_of(capabilities)) + key + program + body


class _Kept:
    """One stream: exact up to `most` bytes, beyond it half head and half tail, in at most 3 × most."""

    def __init__(self, most: int) -> None:
        self.total = 0
        self._most = most
        self._head = bytearray()
        self._tail = bytearray()

    def add(self, data: bytes) -> None:
        self.total += len(data)
        room = self._most - len(self._head)
        self._head += data[:room]
        if room < len(data):
            self._tail += data[room:]
            if len(self._tail) > self._most + _RECORD_MAX:
                del self._tail[: -self._most]

    def kept(self) -> bytes:
        if self.total <= self._most:
            return bytes(self._head)
        front = self._most // 2
        whole = self._head[front:] + self._tail
        return bytes(self._head[:front] + whole[len(whole) - (self._most - front) :])


class _Run:
    """The records of one command, as they come. They are its keeper's, but they come out of the container:
    each carries a tag that only those who have the key can make, and that is good for its place alone.
    """

    def __init__(self, output_bytes: int, key: bytes) -> None:
        self.done: asyncio.Future[Completed] = asyncio.get_running_loop().create_future()
        self.done.add_done_callback(lambda future: future.cancelled() or future.exception())
        self.over = asyncio.Event()
        self.attachment: Attachment | None = None
        self.greeted = False
        self.disk_exceeded = False
        self.left_behind = False
        """Some of its descent could not be ended."""
        self._key = key
        self._records = 0
        self._buffer = bytearray()
        self._streams = {_OUT: _Kept(output_bytes), _ERR: _Kept(output_bytes)}

    def received(self, data: bytes | memoryview) -> None:
        self._buffer += data
        if not self.greeted:
            if not self._buffer.startswith(GREETING):
                # The engine says on the stream itself why it could not start a program.
                del self._buffer[_COMPLAINT_BYTES:]
                return
            del self._buffer[: len(GREETING)]
            self.greeted = True
        at = 0
        while len(self._buffer) - at >= _RECORD.size:
            kind, length, tag = _RECORD.unpack_from(self._buffer, at)
            if length > _RECORD_MAX or kind not in (_OUT, _ERR, _ENDED) or tag != self._tag(kind, length):
                raise WireError("the sandbox broke the protocol: a record that no keeper wrote")
            if len(self._buffer) - at - _RECORD.size < length:
                break
            start = at + _RECORD.size
            at = start + length
            self._records += 1
            self._take(kind, bytes(self._buffer[start:at]))
        del self._buffer[:at]

    def _tag(self, kind: int, length: int) -> bytes:
        place = struct.pack("<QII", self._records, kind, length)
        return hashlib.sha256(self._key + place).digest()[:8]

    def _take(self, kind: int, payload: bytes) -> None:
        if self.done.done():
            raise WireError("the sandbox broke the protocol: a root command goes on after its end")
        if kind != _ENDED:
            self._streams[kind].add(payload)
        elif len(payload) != _END.size:
            raise WireError("the sandbox broke the protocol: a short end of a root command")
        else:
            self._end(*_END.unpack(payload))

    def _end(
        self, status: int, error: int, flags: int, _: int, took: int, user: int, system: int, rss: int
    ) -> None:
        if flags & _NEVER_BEGAN:
            self.done.set_exception(_why(error))
            return
        self.left_behind = bool(flags & _NOT_ENDED)
        try:
            code = os.waitstatus_to_exitcode(status)
        except ValueError:
            raise WireError("the sandbox broke the protocol: a root command ended in no way") from None
        out, err = self._streams[_OUT], self._streams[_ERR]
        completed = Completed(
            exit_code=code if code >= 0 else 128 - code,
            signal=-code if code < 0 else None,
            stdout=out.kept(),
            stderr=err.kept(),
            stdout_total=out.total,
            stderr_total=err.total,
            timed_out=bool(flags & _TIMED_OUT),
            cancelled=bool(flags & _CANCELLED),
            oom_killed=bool(flags & _OOM),
            disk_exceeded=self.disk_exceeded,
            spill={},
            duration_s=took / 1e6,
            rusage=Rusage(user / 1e6, system / 1e6, rss * 1024),
            jobs=0,
        )
        self.done.set_result(completed)

    def closed(self, reason: str) -> None:
        self.over.set()
        if self.done.done():
            return
        if self.greeted:
            self.done.set_exception(WireError(f"a root command was lost: {reason}"))
            return
        said = " ".join(self._buffer.decode("utf-8", "backslashreplace").split())
        self.done.set_exception(EngineFailed(f"the engine started no root command: {said[:500] or reason}"))


def _why(error: int) -> Exception:
    """Why nothing of the command was begun."""
    if error in (1, 22):  # EPERM EINVAL: not the capabilities that were asked for, and so none
        return SandboxRefused("this engine gives a root command other capabilities than the policy lists")
    made = spawn_error(Fault(error), "")
    return (
        made if isinstance(made, OSError | Busy) else SandboxRefused(f"a root command was not begun: {made}")
    )
