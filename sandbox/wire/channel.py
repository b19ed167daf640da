"""The wire, host side: requests go out under a number, replies come back to whoever waits under it.

A number is a call's id or, for everything else, the next of a count. Nothing here blocks and nothing here
trusts the other end: an unknown number is dropped, a broken frame ends the connection with every waiter told.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import struct
from typing import Protocol

from sandbox.errors import Busy, SandboxGone, WireError
from sandbox.wire.attach import Attachment
from sandbox.wire.frames import END, NOT_REGULAR, PADDING, Frame, Parser, Reply, Request, frame, hello
from sandbox.wire.payloads import Living, decode_calls

GREETING_S = 20.0
PING_EVERY_S = 10.0
POSTPONED_S = 0.02
PING_ANSWER_S = 60.0
"""A container that is given no CPU for this long is as good as gone."""


class Waiter(Protocol):
    def heard(self, reply: Frame) -> None: ...
    def lost(self, error: SandboxGone) -> None: ...


class Fault(Exception):
    """A request failed inside: an errno, or NOT_REGULAR, or ALREADY_DONE."""

    def __init__(self, code: int) -> None:
        super().__init__(os.strerror(code) if code < NOT_REGULAR else f"code {code}")
        self.code = code


def fault_of(reply: Frame) -> Fault:
    if len(reply.payload) != 4:
        raise WireError("the sandbox broke the protocol: a fault without its code")
    return Fault(struct.unpack("<I", reply.payload)[0])


class Answer:
    """Waits for one request's answer: OK, or DATA up to its end, or FAIL."""

    def __init__(self, limit: int) -> None:
        self.future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._parts: list[bytes] = []
        self._room = limit

    def heard(self, reply: Frame) -> None:
        if self.future.done():
            return
        if reply.type == Reply.FAIL:
            self.future.set_exception(fault_of(reply))
        elif reply.type in (Reply.DATA, Reply.OK):
            self._room -= len(reply.payload)
            if self._room < 0:
                self.future.set_exception(WireError("the sandbox sent more than it was asked for"))
                return
            self._parts.append(reply.payload)
            if reply.flag & END:
                self.future.set_result(self._parts[0] if len(self._parts) == 1 else b"".join(self._parts))

    def lost(self, error: SandboxGone) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class Channel:
    """One host's connection to one init. `close` lets go and leaves the container as it is."""

    def __init__(self, attachment: Attachment) -> None:
        self._attachment = attachment
        self._epoch = int.from_bytes(os.urandom(4), "little") or 1
        self._nonce = os.urandom(16)
        self._parser = Parser(self._epoch, self._nonce)
        self._waiters: dict[int, Waiter] = {}
        self._numbers = itertools.count(1)
        self._unclaimed: dict[int, Frame] = {}
        self._gone: SandboxGone | None = None
        self._pinging: asyncio.Task[None] | None = None
        self._postponed = bytearray()
        self._flushing = False
        self.streams: Waiter | None = None
        """Who hears what is said of connections."""
        attachment.received = self._received
        attachment.closed = self._closed

    async def greet(self, lease_s: float, *, again: bool, within_s: float = GREETING_S) -> list[Living]:
        """Begin; `again` after another host. The calls the sandbox knows. SandboxGone: silent, or gone."""
        answer = Answer(1 << 20)
        self._waiters[0] = _Greeting(answer)
        try:
            self.send_raw((PADDING if again else b"") + hello(self._epoch, self._nonce, int(lease_s * 1000)))
            async with asyncio.timeout(within_s):
                calls = decode_calls(await answer.future)
        except TimeoutError:
            self.close()
            raise SandboxGone(f"the sandbox did not say hello within {within_s:g} s") from None
        finally:
            self._waiters.pop(0, None)
        self._pinging = asyncio.create_task(self._ping(min(PING_EVERY_S, lease_s / 4)), name="wire ping")
        return calls

    def send(self, kind: Request, number: int, payload: bytes = b"", *, flag: int = 0, aux: int = 0) -> None:
        """Raises SandboxGone when the wire is down."""
        self.send_raw(frame(self._epoch, kind, number, payload, flag=flag, aux=aux))

    def send_raw(self, frames: bytes) -> None:
        """Frames that belong together."""
        if self._gone is not None:
            raise SandboxGone(str(self._gone))
        if self._postponed:
            frames = bytes(self._postponed) + frames
            self._postponed.clear()
        self._attachment.write(frames)

    def postpone(self, kind: Request, number: int) -> None:
        """For what nobody waits for: goes with the next frame, or by itself in a moment."""
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_later(POSTPONED_S, self.flush)
        self._postponed += frame(self._epoch, kind, number)

    def flush(self) -> None:
        self._flushing = False
        if self._postponed and self._gone is None:
            self.send_raw(b"")

    async def drain(self) -> None:
        await self._attachment.drain()

    @property
    def epoch(self) -> int:
        return self._epoch

    @property
    def gone(self) -> SandboxGone | None:
        """Why the wire is down; None while it stands."""
        return self._gone

    async def ask(
        self, kind: Request, payload: bytes = b"", *, flag: int = 0, limit: int = 65_536, rest: bytes = b""
    ) -> bytes:
        """One request, one answer of at most `limit` bytes. Fault when it failed inside.

        `rest` follows the payload in WRITE_DATA frames.
        """
        number = next(self._numbers)
        answer = Answer(limit)
        self._waiters[number] = answer
        try:
            self.send(kind, number, payload, flag=flag)
            for at in range(0, len(rest), 65_536):
                piece = rest[at : at + 65_536]
                self.send(Request.WRITE_DATA, number, piece, flag=END if at + 65_536 >= len(rest) else 0)
                await self.drain()
            return await answer.future
        finally:
            self.forget(number)  # Gone already when the wire is down.

    def number(self) -> int:
        """One that no request has had."""
        return next(self._numbers)

    def listen(self, number: int, waiter: Waiter) -> None:
        """Replies under this number go to `waiter`, one that came before it included."""
        if self._gone is not None:
            waiter.lost(self._gone)
            return
        self._waiters[number] = waiter
        early = self._unclaimed.pop(number, None)
        if early is not None:
            waiter.heard(early)

    def forget(self, number: int) -> None:
        self._waiters.pop(number, None)

    def close(self) -> None:
        self.flush()
        self._closed("this harness let go of it")
        self._attachment.close()

    async def _ping(self, every_s: float) -> None:
        while True:
            await asyncio.sleep(every_s)
            try:
                async with asyncio.timeout(PING_ANSWER_S):
                    await self.ask(Request.PING)
            except TimeoutError:
                self._closed(f"the sandbox has not answered for {PING_ANSWER_S:g} s")
                self._attachment.close()
                return
            except (SandboxGone, Fault):
                return

    def _received(self, data: bytes | memoryview) -> None:
        for reply in self._parser.feed(data):
            if reply.type >= Reply.OPENED:
                if self.streams is not None:
                    self.streams.heard(reply)
                continue
            waiter = self._waiters.get(reply.id if reply.type != Reply.WELCOME else 0)
            if waiter is not None:
                waiter.heard(reply)
            elif reply.type == Reply.DONE and len(self._unclaimed) < 512:
                self._unclaimed[reply.id] = reply  # told again after a reconnect, before anybody asked

    def _closed(self, reason: str) -> None:
        if self._gone is not None:
            return
        self._gone = SandboxGone(f"the sandbox is gone: {reason}")
        if self._pinging is not None:
            self._pinging.cancel()
        for waiter in list(self._waiters.values()):
            waiter.lost(self._gone)
        self._waiters.clear()
        if self.streams is not None:
            self.streams.lost(self._gone)


class _Greeting:
    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def heard(self, reply: Frame) -> None:
        if reply.type == Reply.WELCOME and not self._answer.future.done():
            self._answer.future.set_result(reply.payload)

    def lost(self, error: SandboxGone) -> None:
        self._answer.lost(error)


def errno_to_exception(fault: Fault, path: str) -> Exception:
    """A file request's fault as the built-in exception the surface promises."""
    if fault.code == NOT_REGULAR:
        return ValueError(f"{path!r} is neither a regular file nor a directory")
    if fault.code == 16:  # EBUSY: all of init's transfer slots are taken
        return Busy("too many file operations at once in this sandbox")
    return OSError(fault.code, os.strerror(fault.code), path)
