"""Calls, host side: what is told about one command over the wire, as its result or as a running process."""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass

from sandbox.errors import Busy, SandboxError, SandboxGone, WireError
from sandbox.protocol import Chunk, Completed, Progress, Rusage, Stream
from sandbox.wire.channel import Channel, Fault, fault_of
from sandbox.wire.frames import (
    ALREADY_DONE,
    END,
    KILL_CANCEL,
    STDIN_WINDOW,
    STREAM_WINDOW,
    Frame,
    Reply,
    Request,
    ResultFlag,
)
from sandbox.wire.payloads import Result

NAMES: tuple[Stream, Stream] = ("stdout", "stderr")
CREDIT_EVERY = STREAM_WINDOW // 4
SPILL = "/tmp/.spill/{call_id}.{stream}"


@dataclass(eq=False)
class Call:
    """A waiter on the channel for one call id. Its outcome is kept by the sandbox until `acknowledge`."""

    channel: Channel
    number: int
    carried: bool = False

    def __post_init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.call_id = f"{self.number:016x}"
        self.done: asyncio.Future[tuple[Result, bytes]] = loop.create_future()
        self.done.add_done_callback(lambda future: future.cancelled() or future.exception())
        self.disk_exceeded = False
        self._chunks: deque[Chunk] = deque()
        self._news = asyncio.Event()
        self._got = [0, 0]
        self._credited = [0, 0]
        self._taken = [0, 0]
        self._sent = 0
        self._consumed = 0
        self._stdin_closed = False
        self._stdin_news = asyncio.Event()
        self._answers: deque[asyncio.Future[bytes]] = deque()

    def heard(self, reply: Frame) -> None:
        if reply.type == Reply.DONE:
            if not self.done.done():
                self.done.set_result(Result.decode(reply.payload))
        elif reply.type == Reply.OUTPUT:
            self._take_output(reply)
        elif reply.type == Reply.STDIN_CREDIT:
            self._take_stdin_credit(reply)
        elif reply.type in (Reply.OK, Reply.DATA):
            self._answer(reply.payload)
        elif reply.type == Reply.FAIL:
            self._failed(fault_of(reply))
        self._news.set()

    def lost(self, error: SandboxGone) -> None:
        if not self.done.done():
            self.done.set_exception(error)
        for answer in self._answers:
            if not answer.done():
                answer.set_exception(error)
        self._stdin_closed = True
        self._stdin_news.set()
        self._news.set()

    def _failed(self, fault: Fault) -> None:
        if self._answers:  # answers come in the order of the questions
            answer = self._answers.popleft()
            if not answer.done():
                answer.set_exception(fault)
        elif not self.done.done():
            self.done.set_exception(fault)

    def _answer(self, payload: bytes) -> None:
        if self._answers:
            answer = self._answers.popleft()
            if not answer.done():
                answer.set_result(payload)

    def _take_output(self, reply: Frame) -> None:
        which = reply.flag - 1
        if which not in (0, 1) or len(reply.payload) < 8 or not self.carried:
            raise WireError("the sandbox broke the protocol: output of no stream")
        (position,) = struct.unpack_from("<Q", reply.payload)
        data = reply.payload[8:]
        if (
            position != self._got[which]
            or self._got[which] + len(data) - self._credited[which] > STREAM_WINDOW
        ):
            raise WireError("the sandbox broke the protocol: output out of turn")
        self._got[which] += len(data)
        self._chunks.append(Chunk(NAMES[which], data))

    def _take_stdin_credit(self, reply: Frame) -> None:
        if len(reply.payload) != 16:
            raise WireError("the sandbox broke the protocol: a short credit")
        consumed, closed = struct.unpack("<QQ", reply.payload)
        self._consumed = max(self._consumed, min(consumed, self._sent))
        self._stdin_closed = self._stdin_closed or bool(closed)
        self._stdin_news.set()

    async def question(self, kind: Request, payload: bytes) -> bytes:
        """PEEK or FETCH: answered in order, under the call's own number."""
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._answers.append(answer)
        self.channel.send(kind, self.number, payload)
        return await answer

    async def send(self, data: bytes, *, close: bool = False) -> None:
        """Standard input, as far as the command reads it. BrokenPipeError when it has closed it."""
        view = memoryview(data)
        while True:
            if self._stdin_closed:
                if data:
                    raise BrokenPipeError("the command no longer reads its standard input")
                return
            room = STDIN_WINDOW - (self._sent - self._consumed)
            if room > 0 or not view:
                piece = bytes(view[:room])
                view = view[len(piece) :]
                self._sent += len(piece)
                last = close and not view
                self.channel.send(Request.STDIN, self.number, piece, flag=END if last else 0)
                if not view:
                    return
                continue
            self._stdin_news.clear()
            await self._stdin_news.wait()

    def given(self, size: int) -> None:
        """Bytes of standard input that went with the command itself."""
        self._sent = size

    async def chunks(self) -> AsyncIterator[Chunk]:
        while True:
            while self._chunks:
                chunk = self._chunks.popleft()
                which = NAMES.index(chunk.stream)
                self._taken[which] += len(chunk.data)
                if self._taken[which] - self._credited[which] >= CREDIT_EVERY and not self.done.done():
                    self._credited[which] = self._taken[which]
                    self.channel.send(
                        Request.CREDIT, self.number, struct.pack("<Q", self._taken[which]), flag=which + 1
                    )
                yield chunk
            if self.done.done():
                return
            self._news.clear()
            await self._news.wait()

    def discard_output(self) -> None:
        """Nobody reads on: take and forget what comes, so that the command is not held up."""
        while self._chunks:
            self._taken[NAMES.index(self._chunks[0].stream)] += len(self._chunks.popleft().data)
        for which in (0, 1):
            if self._taken[which] > self._credited[which] and not self.done.done():
                self._credited[which] = self._taken[which]
                self.channel.send(
                    Request.CREDIT, self.number, struct.pack("<Q", self._taken[which]), flag=which + 1
                )

    async def wait_discarding(self) -> None:
        """Until it is done, whatever it writes."""
        while not self.done.done():
            self.discard_output()
            self._news.clear()
            await self._news.wait()

    async def _ended(self) -> None:
        """Until `done` is. Any number may wait, and one that stops waiting changes nothing for the others."""
        if self.done.done():
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def wake(_: object) -> None:
            if not waiter.done():
                waiter.set_result(None)

        self.done.add_done_callback(wake)
        await waiter

    async def completed(self, output_limit: int) -> Completed:
        """The outcome, fetched whole; not yet acknowledged. See `Sandbox.run` for what it raises."""
        try:
            await self._ended()
            result, kept = self.done.result()
        except Fault as fault:
            raise spawn_error(fault, self.call_id) from None
        size = result.out_kept + result.err_kept
        if result.out_kept > output_limit or result.err_kept > output_limit:
            raise WireError("the sandbox broke the protocol: more output than was asked for")
        if not kept and size:
            kept = await self._fetch(size)
        if len(kept) != size:
            raise WireError("the sandbox broke the protocol: output of another length than it said")
        return self._as_completed(result, kept)

    async def _fetch(self, size: int) -> bytes:
        parts: list[bytes] = []
        at = 0
        while at < size:
            part = await self.question(Request.FETCH, struct.pack("<Q", at))
            if not part or len(part) > size - at:
                raise WireError("the sandbox broke the protocol: a piece of output of the wrong length")
            parts.append(part)
            at += len(part)
        return b"".join(parts)

    def _as_completed(self, result: Result, kept: bytes) -> Completed:
        spill: dict[Stream, str] = {}
        if result.flags & ResultFlag.SPILL_OUT:
            spill["stdout"] = SPILL.format(call_id=self.call_id, stream="out")
        if result.flags & ResultFlag.SPILL_ERR:
            spill["stderr"] = SPILL.format(call_id=self.call_id, stream="err")
        return Completed(
            exit_code=result.exit_code,
            signal=result.signal or None,
            stdout=kept[: result.out_kept],
            stderr=kept[result.out_kept :],
            stdout_total=result.out_total,
            stderr_total=result.err_total,
            timed_out=bool(result.flags & ResultFlag.TIMED_OUT),
            cancelled=bool(result.flags & ResultFlag.CANCELLED),
            oom_killed=bool(result.flags & ResultFlag.OOM),
            disk_exceeded=self.disk_exceeded,
            spill=spill,
            duration_s=result.duration_us / 1e6,
            rusage=Rusage(result.user_us / 1e6, result.system_us / 1e6, result.rss_kb * 1024),
            jobs=result.jobs,
        )

    def acknowledge(self) -> None:
        self.channel.postpone(Request.ACK, self.number)

    def kill(self, *, cancel: bool) -> None:
        self.channel.send(Request.KILL, self.number, aux=KILL_CANCEL if cancel else 0)

    async def progress(self, tail_bytes: int) -> Progress:
        payload = await self.question(Request.PEEK, struct.pack("<Q", max(0, tail_bytes)))
        if len(payload) < 32:
            raise WireError("the sandbox broke the protocol: a short look at a call")
        out_total, err_total, running, first = struct.unpack_from("<QQQQ", payload)
        tails = payload[32:]
        return Progress(tails[:first], tails[first:], out_total, err_total, bool(running))


def spawn_error(fault: Fault, call_id: str) -> Exception:
    """Why a command could not be begun. Nothing of it ran."""
    if fault.code in (11, 12, 16, 23, 24):  # EAGAIN ENOMEM EBUSY ENFILE EMFILE
        return Busy("the sandbox has no process, memory or call left to give; end something and try again")
    if fault.code == ALREADY_DONE:
        return SandboxError(f"call {call_id} was already executed and its result released")
    if fault.code == 3:  # ESRCH
        return KeyError(call_id)
    return OSError(fault.code, f"the command's directory cannot be entered: {fault}")
