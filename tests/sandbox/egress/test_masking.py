"""No piece of a secret gets through, however the bytes are cut, and no other byte is touched."""

from __future__ import annotations

import base64
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.egress.masking import Mask, sentinel_for

SECRET = "s3cr3t+/=value&x"
SENTINEL = sentinel_for(SECRET)

SPELLINGS = [
    SECRET.encode(),
    base64.b64encode(SECRET.encode()),
    base64.b64encode(b"user:" + SECRET.encode()),
    base64.b64encode(b"ab" + SECRET.encode() + b"cd"),
    base64.urlsafe_b64encode(b"a" + SECRET.encode()),
    quote(SECRET, safe="").encode(),
]


def masked(mask: Mask, pieces: list[bytes]) -> bytes:
    return b"".join([*(mask.feed(piece) for piece in pieces), mask.flush()])


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("size", [1, 2, 5, 1000])
def test_an_echo_is_masked_however_it_is_cut(spelling: bytes, size: int) -> None:
    text = b"before " + spelling + b" after " + spelling
    out = masked(Mask({SECRET: SENTINEL}), [text[at : at + size] for at in range(0, len(text), size)])
    assert len(out) == len(text)
    assert spelling not in out
    assert SECRET.encode() not in out
    # What stands in base64 may keep the bytes around the secret, and nothing of the secret itself.
    for word in out.split():
        try:
            decoded = base64.b64decode(word.replace(b"-", b"+").replace(b"_", b"/"), validate=True)
        except ValueError:
            continue
        assert SECRET[4:-4].encode() not in decoded
    assert out.startswith(b"before ")


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_everything_else_passes_unchanged(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    out = masked(Mask({SECRET: SENTINEL}), pieces)
    if SECRET.encode() not in whole:
        assert out == whole


@given(st.lists(st.sampled_from([SECRET.encode(), b"s3c", b"x", b"r3t+/=value&x", b"\x00"]), max_size=12))
def test_no_cut_lets_a_secret_through(pieces: list[bytes]) -> None:
    assert SECRET.encode() not in masked(Mask({SECRET: SENTINEL}), pieces)


def test_a_mask_without_secrets_holds_nothing_back() -> None:
    assert Mask({}).feed(b"abc") == b"abc"


@pytest.mark.parametrize("secret", ["short", "", "has space inside", "line\nbreak!!", "ümlauts-here"])
def test_what_cannot_be_masked_is_no_secret(secret: str) -> None:
    with pytest.raises(ValueError, match="secret"):
        sentinel_for(secret)


def test_sentinels_are_as_long_as_their_secret_and_differ_every_time() -> None:
    assert len(sentinel_for(SECRET)) == len(SECRET)
    assert sentinel_for(SECRET) != sentinel_for(SECRET)
