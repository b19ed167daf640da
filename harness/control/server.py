"""The control socket: how another terminal of the same user reaches a running session.

A Unix socket in the session's private directory, which no container ever sees. A peer is asked for its user
by the kernel: only this session's own user and root are answered. One JSON object a line each way, bounded;
after `connect` the stream carries bytes to and from a port inside.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from harness.approvals.grants import Grant
from harness.approvals.petition import Reply, Scope
from harness.approvals.service import Approvals, Pending
from harness.control.desk import Desk
from harness.errors import JournalError, UsageError
from harness.inbox import When
from harness.messages import JsonObject
from policies.errors import PolicyError
from sandbox.errors import SandboxError
from sandbox.protocol import Connection, Sandbox

SOCKET = "control"
MAX_SAID = 32 << 10
"""Characters of a prompt from another terminal."""
MAX_REQUEST = 256 << 10
"""Bytes of one request: room for a prompt in any script."""
MAX_PEERS = 64
"""Connections at once; one more is turned away."""
REQUEST_S = 10.0
"""For a peer to say what it wants."""
PIECE = 64 << 10
ELSEWHERE = "another terminal"
ROOT = 0
"""Of the host: it could read the session's memory anyway."""


class _Said(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _List(_Said):
    op: Literal["approvals", "grants", "wait"]


class _Answer(_Said):
    op: Literal["answer"]
    approval: Annotated[str, Field(max_length=20)]
    granted: bool
    scope: Scope | None = None
    """None for the narrowest that is offered."""
    minutes: float | None = None


class _Revoke(_Said):
    op: Literal["revoke"]
    grant: Annotated[str, Field(max_length=64)]
    """A grant's name, or its binding."""


class _Say(_Said):
    op: Literal["say"]
    text: Annotated[str, Field(max_length=MAX_SAID)]
    when: When


class _Drop(_Said):
    op: Literal["drop"]
    prompt: Annotated[str, Field(max_length=20)]


class _Cancel(_Said):
    op: Literal["cancel"]
    call: Annotated[str, Field(max_length=256)] | None
    """A call's id; None for the turn."""


class _Connect(_Said):
    op: Literal["connect"]
    port: Annotated[int, Field(ge=1, le=65_535)]


_Request = _List | _Answer | _Revoke | _Say | _Drop | _Cancel | _Connect
_REQUEST: TypeAdapter[_Request] = TypeAdapter(Annotated[_Request, Field(discriminator="op")])


@contextmanager
def reachable(directory: Path) -> Iterator[tuple[int, str]]:
    """The open directory and a path of the socket in it that fits a socket's address (108 bytes)."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        short = f"/proc/self/fd/{fd}/{SOCKET}"
        yield fd, short if sys.platform == "linux" else str(directory / SOCKET)
    finally:
        os.close(fd)


@asynccontextmanager
async def controlled(
    directory: Path, approvals: Approvals, box: Sandbox, desk: Desk | None
) -> AsyncIterator[None]:
    """Listen while the block runs; a shell has no desk.

    Raises OSError when the socket cannot be made; the caller holds the session's lock, so a socket that is
    there already was left behind.
    """
    with reachable(directory) as (fd, path):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(SOCKET, dir_fd=fd)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        listening.bind(path)
        os.chmod(SOCKET, 0o600, dir_fd=fd)
        control = _Control(approvals, box, desk)
        server = await asyncio.start_unix_server(control.serve, sock=listening, limit=MAX_REQUEST)
        approvals.reachable = True
        try:
            yield
        finally:
            approvals.reachable = False
            server.close()
            await control.close()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(SOCKET, dir_fd=fd)


async def _spoken(desk: Desk, request: _Say | _Drop | _Cancel) -> JsonObject:
    """What came of a prompt, or of a cancellation."""
    try:
        match request:
            case _Say():
                return {"ok": True, "prompt": await desk.say(request.text, request.when, ELSEWHERE)}
            case _Drop():
                gone = await desk.drop(request.prompt, ELSEWHERE)
                return _verdict(None if gone else f"no prompt {request.prompt} waits")
            case _Cancel():
                return _verdict(_cancel(desk, request.call))
    except (UsageError, JournalError) as exc:
        return _verdict(str(exc))


def _cancel(desk: Desk, call: str | None) -> str | None:
    """What is wrong with it, or None."""
    if call is None:
        return None if desk.cancel_turn() else "no turn is under way"
    if desk.cancel_call(call):
        return None
    under_way = ", ".join(desk.calls) or "none"
    return f"no call {call} is under way; these are: {under_way}"


class _Control:
    def __init__(self, approvals: Approvals, box: Sandbox, desk: Desk | None) -> None:
        self._approvals = approvals
        self._box = box
        self._desk = desk
        self._peers: set[asyncio.Task[None]] = set()
        self._closing = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if not _is_ours(writer.get_extra_info("socket")) or len(self._peers) >= MAX_PEERS:
            writer.transport.abort()
            return
        self._peers.add(task)
        try:
            await self._converse(reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, JournalError, PolicyError):
            pass  # The peer has gone, or says nothing, or the session is about to end for its own reasons.
        except asyncio.CancelledError:
            # By `close`, which waits for it. Python before 3.12 tells a cancelled handler as an error, with a
            # traceback, on the user's terminal.
            if not self._closing:
                raise
        finally:
            self._peers.discard(task)
            writer.close()

    async def close(self) -> None:
        self._closing = True
        for peer in list(self._peers):
            peer.cancel()
        if self._peers:
            await asyncio.wait(list(self._peers))

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                async with asyncio.timeout(REQUEST_S):
                    line = await reader.readuntil(b"\n")
                request = _REQUEST.validate_json(line)
            except (asyncio.LimitOverrunError, ValidationError):
                await _tell(writer, {"ok": False, "error": "that is no request of this protocol"})
                return
            match request:
                case _Connect():
                    await self._connect(request.port, reader, writer)
                    return
                case _List(op="wait"):
                    await reader.read(1)
                    return
                case _List(op="approvals"):
                    await _tell(
                        writer, {"ok": True, "approvals": [_asked(p) for p in self._approvals.pending]}
                    )
                case _List():
                    grants = self._approvals.grants.live()
                    await _tell(writer, {"ok": True, "grants": [_granted(grant) for grant in grants]})
                case _Answer():
                    await _tell(writer, _verdict(self._answer(request)))
                case _Revoke():
                    known = await self._approvals.revoke(request.grant)
                    await _tell(writer, _verdict(None if known else f"no grant {request.grant} stands"))
                case _Say() | _Drop() | _Cancel() if self._desk is None:
                    await _tell(writer, _verdict("this session is a shell: no model in it is spoken to"))
                case _Say() | _Drop() | _Cancel():
                    await _tell(writer, await _spoken(self._desk, request))

    def _answer(self, request: _Answer) -> str | None:
        """What is wrong with it, or None."""
        asked = next((p for p in self._approvals.pending if p.petition.name == request.approval), None)
        if asked is None:
            return f"no question {request.approval} waits for an answer"
        scope = request.scope or asked.petition.offers[0]
        reply = Reply(request.granted, scope, request.minutes)
        return self._approvals.say(request.approval, reply, ELSEWHERE)

    async def _connect(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            connection = await self._box.connect(port)
        except (OSError, SandboxError) as exc:
            nobody = f"nothing inside listens on port {port}"
            await _tell(
                writer,
                {"ok": False, "error": nobody if isinstance(exc, ConnectionRefusedError) else str(exc)},
            )
            return
        try:
            await _tell(writer, {"ok": True})
            async with asyncio.TaskGroup() as both:
                both.create_task(_inward(reader, connection))
                both.create_task(_outward(connection, writer))
        except* OSError:
            pass  # Either side broke off; the other one is let go of with it.
        finally:
            connection.abort()


async def _inward(reader: asyncio.StreamReader, connection: Connection) -> None:
    while data := await reader.read(PIECE):
        await connection.send(data)
    await connection.end()


async def _outward(connection: Connection, writer: asyncio.StreamWriter) -> None:
    while data := await connection.receive():
        writer.write(data)
        await writer.drain()
    writer.write_eof()


def _is_ours(peer: socket.socket) -> bool:
    if not hasattr(socket, "SO_PEERCRED"):
        return True  # There the directory's and the socket's own permissions decide.
    raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", raw)
    return uid in (os.geteuid(), ROOT)


async def _tell(writer: asyncio.StreamWriter, answer: JsonObject) -> None:
    writer.write(json.dumps(answer).encode() + b"\n")
    async with asyncio.timeout(REQUEST_S):
        await writer.drain()


def _verdict(fault: str | None) -> JsonObject:
    return {"ok": True} if fault is None else {"ok": False, "error": fault}


def _asked(pending: Pending) -> JsonObject:
    petition = pending.petition
    return {
        "approval": petition.name,
        "what": petition.kind,
        "facts": [list(fact) for fact in petition.facts],
        "said": petition.said,
        "binding": petition.binding,
        "call_id": petition.call_id,
        "offers": list(petition.offers),
        "left_s": max(0.0, round(pending.until - time.time(), 1)),
    }


def _granted(grant: Grant) -> JsonObject:
    return {
        "grant": grant.name,
        "kind": grant.kind,
        "what": grant.subject,
        "scope": grant.scope,
        "until": grant.until,
        "binding": grant.binding,
    }
