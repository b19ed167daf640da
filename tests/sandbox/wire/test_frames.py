"""The wire's bytes: what the host builds, and what it makes of whatever comes back."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.errors import WireError
from sandbox.wire.frames import (
    END,
    FRAME_MAX,
    MAGIC,
    OVERHEAD,
    PADDING,
    Frame,
    Parser,
    Reply,
    Request,
    frame,
    hello,
)
from sandbox.wire.payloads import Facts, Result, Spawn, decode_calls

EPOCH = 0x1234ABCD
NONCE = bytes(range(16))


def said(kind: Reply, number: int, payload: bytes, epoch: int = EPOCH) -> bytes:
    header = struct.pack("<IIBBHIQ", epoch, len(payload), kind, END, 0, 0, number)
    return header + payload + struct.pack("<I", epoch)


def spawn(*argv: bytes, env: tuple[bytes, ...] = (), stdin: bytes = b"") -> Spawn:
    return Spawn(argv, b"/", env, 0, 1000, 100, 1000, 1000, stdin=stdin)


def test_frames_come_out_as_they_went_in_however_the_bytes_were_cut() -> None:
    stream = (
        NONCE + said(Reply.OK, 1, b"") + said(Reply.DATA, 2, b"x" * FRAME_MAX) + said(Reply.DONE, 3, b"end")
    )
    for step in (1, 7, 4096, len(stream)):
        parser = Parser(EPOCH, NONCE)
        got = [f for at in range(0, len(stream), step) for f in parser.feed(stream[at : at + step])]
        assert got == [
            Frame(Reply.OK, END, 1, b""),
            Frame(Reply.DATA, END, 2, b"x" * FRAME_MAX),
            Frame(Reply.DONE, END, 3, b"end"),
        ]


@given(st.binary(max_size=300), st.lists(st.binary(max_size=50), max_size=5))
def test_what_another_host_left_on_the_wire_is_thrown_away(before: bytes, payloads: list[bytes]) -> None:
    if NONCE in before + NONCE[:-1]:
        return
    parser = Parser(EPOCH, NONCE)
    stream = before + NONCE + b"".join(said(Reply.OK, at, data) for at, data in enumerate(payloads))
    assert [f.payload for f in parser.feed(stream)] == payloads


@given(st.lists(st.binary(max_size=200), max_size=8))
def test_hostile_bytes_are_frames_of_ours_or_one_typed_error(pieces: list[bytes]) -> None:
    parser = Parser(EPOCH, NONCE)
    parser.feed(NONCE)
    try:
        for piece in pieces:
            assert parser.feed(piece) == []
    except WireError:
        pass


@pytest.mark.parametrize(
    "wrong",
    [
        said(Reply.OK, 1, b"", epoch=EPOCH + 1),
        said(Reply.OK, 1, b"")[:-1] + b"\xff",
        struct.pack("<IIBBHIQ", EPOCH, FRAME_MAX + 1, Reply.OK, 0, 0, 0, 1) + bytes(8),
        struct.pack("<IIBBHIQ", EPOCH, 2**32 - 1, Reply.OK, 0, 0, 0, 1) + bytes(8),
        struct.pack("<IIBBHIQ", EPOCH, 0, Request.SPAWN, 0, 0, 0, 1) + struct.pack("<I", EPOCH),
        struct.pack("<IIBBHIQ", EPOCH, 0, Reply.OK, 0, 0, 7, 1) + struct.pack("<I", EPOCH),
    ],
    ids=["another epoch", "no trailer", "too long", "4 GB", "a request", "not zero"],
)
def test_a_frame_that_is_none_of_this_connection_ends_it(wrong: bytes) -> None:
    parser = Parser(EPOCH, NONCE)
    parser.feed(NONCE)
    with pytest.raises(WireError):
        parser.feed(wrong)


@given(st.binary(max_size=400))
def test_hostile_payloads_are_typed_errors(payload: bytes) -> None:
    for decode in (Result.decode, Facts.decode_all, decode_calls):
        try:
            decode(payload)
        except WireError:
            continue


def test_padding_completes_the_longest_frame_a_dying_host_can_leave_half_said() -> None:
    longest = frame(EPOCH, Request.WRITE_DATA, 1, bytes(FRAME_MAX))
    assert len(PADDING) >= len(longest) == FRAME_MAX + OVERHEAD
    assert hello(EPOCH, NONCE, 1000).startswith(MAGIC)
    assert len(MAGIC) == 16


def test_a_long_command_travels_in_parts_that_belong_together() -> None:
    encoded = spawn(b"echo", *[b"x" * 60_000] * 4).encode(EPOCH, 1 << 40)
    flags = []
    at = 0
    while at < len(encoded):
        _, length, kind, flag, _, _, number = struct.unpack_from("<IIBBHIQ", encoded, at)
        assert (kind, number) == (Request.SPAWN, 1 << 40)
        flags.append(flag)
        at += OVERHEAD + length
    assert flags == [1, 1, 1, 0]


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (spawn(), "1 to 4096 words"),
        (spawn(*[b"x"] * 4097), "1 to 4096 words"),
        (spawn(b"a\0b"), "NUL"),
        (spawn(b"a", env=(b"A=\0",)), "NUL"),
        (spawn(b"x" * (128 * 1024)), "128 KiB"),
        (spawn(*[b"x" * 100_000] * 4), "in all"),
        (spawn(b"a", env=(b"A=",) * 1025), "1024"),
    ],
)
def test_a_command_that_cannot_be_asked_for_says_why(command: Spawn, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        command.encode(EPOCH, 1 << 40)
