"""What comes out of a container as a root command's outcome: bounded, typed, and the keeper's alone."""

from __future__ import annotations

import hashlib
import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.container.rootexec import GREETING, _Run
from sandbox.errors import EngineFailed, SandboxRefused, WireError
from sandbox.protocol import Completed

KEY = b"0123456789abcdef"
OUT, ERR, END = 1, 2, 3


def record(place: int, kind: int, payload: bytes, key: bytes = KEY) -> bytes:
    tag = hashlib.sha256(key + struct.pack("<QII", place, kind, len(payload))).digest()[:8]
    return struct.pack("<II8s", kind, len(payload), tag) + payload


def end(status: int = 7 << 8, flags: int = 0, error: int = 0) -> bytes:
    return struct.pack("<iiIIQQQQ", status, error, flags, 0, 1_500_000, 2, 3, 4)


def heard(*pieces: bytes, output_bytes: int = 100, close: bool = True) -> _Run:
    run = _Run(output_bytes, KEY)
    for piece in pieces:
        run.received(piece)
    if close:
        run.closed("the end")
    return run


async def test_records_are_an_outcome_however_they_are_cut() -> None:
    whole = (
        GREETING
        + record(0, OUT, b"one")
        + record(1, ERR, b"two")
        + record(2, OUT, b"")
        + record(3, END, end())
    )
    for size in (1, 7, len(whole)):
        run = heard(*(whole[at : at + size] for at in range(0, len(whole), size)))
        done: Completed = run.done.result()
        assert (done.exit_code, done.stdout, done.stderr, done.duration_s) == (7, b"one", b"two", 1.5)


@pytest.mark.parametrize(
    "forged",
    [
        record(0, END, end(), key=b"another key, 16B"),
        record(1, END, end()),
        record(0, OUT, b"x") + record(0, END, end()),
        record(0, OUT, b"x") * 2,
        record(0, 4, b""),
        record(0, END, b"short"),
        record(0, END, end(status=0x7F)),
        record(0, OUT, bytes(65_537)),
        record(0, END, end()) + record(1, OUT, b"more"),
        struct.pack("<II8s", OUT, 1 << 31, b""),
    ],
)
async def test_what_the_keeper_did_not_write_ends_it(forged: bytes) -> None:
    with pytest.raises(WireError):
        heard(GREETING, forged, close=False)


async def test_an_end_that_never_came_is_told_apart_from_a_start_that_never_was() -> None:
    assert isinstance(heard(GREETING, record(0, OUT, b"x")).done.exception(), WireError)
    refused = heard(b"OCI runtime exec failed: \x1b[2J no such thing\r\n").done.exception()
    assert isinstance(refused, EngineFailed)
    assert "no such thing" in str(refused)
    assert len(str(heard(b"x" * 1_000_000).done.exception())) < 1000


@pytest.mark.parametrize(
    ("errno", "kind"), [(2, FileNotFoundError), (20, NotADirectoryError), (1, SandboxRefused)]
)
async def test_what_never_began_says_why(errno: int, kind: type[Exception]) -> None:
    run = heard(GREETING, record(0, END, end(flags=8, error=errno)))
    assert isinstance(run.done.exception(), kind)


async def test_head_and_tail_are_kept_in_bounded_memory() -> None:
    run = _Run(10, KEY)
    run.received(GREETING)
    for place in range(300):
        run.received(record(place, OUT, str(place).encode() * 20_000))
    run.received(record(300, OUT, b"the end"))
    assert len(run._streams[OUT]._tail) < 200_000
    run.received(record(301, END, end()))
    done = run.done.result()
    assert done.stdout == b"00000" + b"e end"
    assert done.stdout_total == sum(len(str(place)) for place in range(300)) * 20_000 + 7
    for size in (9, 10, 11):
        kept = heard(
            GREETING, record(0, OUT, bytes(range(size))), record(1, END, end()), output_bytes=10
        ).done.result()
        assert len(kept.stdout) == min(size, 10)
        assert kept.truncated == (size > 10)


@given(st.lists(st.binary(max_size=200), max_size=5), st.booleans())
async def test_hostile_bytes_are_one_typed_error(pieces: list[bytes], greeted: bool) -> None:
    run = _Run(100, KEY)
    with suppress(WireError):
        for piece in [GREETING, *pieces] if greeted else pieces:
            run.received(piece)
        run.closed("over")
        assert run.done.exception() is not None
