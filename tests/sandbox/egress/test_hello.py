"""The ClientHello is read strictly: real ones are understood, anything else is an error of ours."""

from __future__ import annotations

import contextlib

import pytest
from gate_world import client_hello
from hypothesis import given
from hypothesis import strategies as st

from sandbox.egress.hello import HELLO_MAX, Hello, NotTls, looks_like_tls, read_hello

REAL = client_hello("allowed.test")


def vector(size: int, data: bytes) -> bytes:
    return len(data).to_bytes(size, "big") + data


def extension(kind: int, data: bytes) -> bytes:
    return kind.to_bytes(2, "big") + vector(2, data)


def server_name(name: bytes, kind: int = 0) -> bytes:
    return extension(0, vector(2, bytes([kind]) + vector(2, name)))


def hello(*extensions: bytes, version: bytes = b"\x03\x03") -> bytes:
    body = version + bytes(32) + vector(1, b"") + vector(2, b"\x13\x01") + vector(1, b"\0")
    return b"\x01" + vector(3, body + vector(2, b"".join(extensions)))


def record(message: bytes) -> bytes:
    return b"\x16\x03\x01" + vector(2, message)


def test_real_ones_are_understood_with_what_follows_them() -> None:
    assert read_hello(REAL) == Hello("allowed.test", hidden=False)
    assert read_hello(client_hello(None)) == Hello(None, hidden=False)
    assert read_hello(REAL + b"\x14\x03\x03\x00\x01\x01") == Hello("allowed.test", hidden=False)


@given(st.integers(0, len(REAL) - 1))
def test_every_beginning_of_one_asks_for_more(size: int) -> None:
    assert read_hello(REAL[:size]) is None
    assert size < 2 or looks_like_tls(REAL[:size])


@given(st.lists(st.integers(1, 100), min_size=1, max_size=20))
def test_one_in_several_records_is_put_together(sizes: list[int]) -> None:
    message, pieces = hello(server_name(b"allowed.test")), []
    for size in sizes:
        pieces.append(message[:size])
        message = message[size:]
    data = b"".join(record(piece) for piece in [*pieces, message] if piece)
    assert read_hello(data) == Hello("allowed.test", hidden=False)


@pytest.mark.parametrize("kind", [0xFE0D, 0xFFCE])
def test_one_that_hides_its_name_is_told_apart(kind: int) -> None:
    read = read_hello(record(hello(server_name(b"allowed.test"), extension(kind, b"x"))))
    assert read == Hello("allowed.test", hidden=True)


@pytest.mark.parametrize(
    "data",
    [
        record(hello(server_name(b"allowed.test"), server_name(b"evil.test"))),
        record(hello(server_name(b"allowed.test", kind=1))),
        record(hello(server_name(b""))),
        record(hello(server_name(b"\xd0\xb0llowed.test"))),
        record(hello(extension(0, b""))),
        record(hello(extension(0, vector(2, (b"\0" + vector(2, b"allowed.test")) * 2)))),
        record(hello(extension(0, vector(2, b"\0" + vector(2, b"allowed.test")) + b"x"))),
        record(hello(version=b"\x02\x00")),
        record(hello() + b"\x0b\0\0\0"),
        record(hello()[:-1]) + record(hello()[-1:] + b"x"),
        record(b"\x02" + hello()[1:]),
        record(b"\x01" + (HELLO_MAX + 1).to_bytes(3, "big")),
        record(b"\x01") + b"\x15\x03\x01\x00\x02\x02\x28",
        b"\x16\x03\x01\x00\x00",
        b"\x16\x02",
        b"GET / HTTP/1.1\r\n",
        b"".join(record(hello(extension(21, bytes(200)))[at : at + 1]) for at in range(100)),
    ],
)
def test_what_servers_could_read_differently_is_no_clienthello(data: bytes) -> None:
    with pytest.raises(NotTls):
        read_hello(data)


@given(st.binary(max_size=300) | st.binary(max_size=300).map(lambda data: b"\x16\x03\x01" + data))
def test_any_bytes_end_in_an_answer(data: bytes) -> None:
    with contextlib.suppress(NotTls):
        assert isinstance(read_hello(data), Hello | None)


@given(st.integers(0, len(REAL) - 1), st.integers(0, 255))
def test_a_changed_byte_never_makes_it_name_nobody_it_named(at: int, value: int) -> None:
    changed = REAL[:at] + bytes([value]) + REAL[at + 1 :]
    try:
        read = read_hello(changed)
    except NotTls:
        return
    assert read is None or read.server_name is None or read.server_name.encode() in changed
