"""What of a contained shell's output may reach the user's own terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.screen.terminal import Filter


@pytest.mark.parametrize(
    "kept",
    [
        b"plain text\r\n\ttab",
        "漢字 é".encode(),
        b"\x1b[1;31mred\x1b[0m",
        b"\x1b[2J\x1b[10;20H\x1b[K",
        b"\x1b[?1049h\x1b[?25l\x1b[?2004h",
        b"\x1b7\x1b8\x1bM",
        b"\x1b(0lqk\x1b(B",
        b"\x1b[4 q",
    ],
)
def test_what_a_full_screen_program_needs_passes(kept: bytes) -> None:
    assert Filter().feed(kept) == kept


@pytest.mark.parametrize(
    "attack",
    [
        b"\x1b]0;title\x07",
        b"\x1b]52;c;AAAA\x1b\\",
        b"\x1b]8;;http://evil\x07",
        "\x9d0;title\x9c".encode(),
        b"\x1bP$q\x1b\\",
        b"\x1b_G\x1b\\",
        b"\x1b^x\x1b\\",
        b"\x1bXx\x1b\\",
        b"\x1b[21t",
        b"\x1b[6n",
        b"\x1b[c",
        b"\x1b[>c",
        b"\x1b[5i",
        b"\x1b[?1000h",
        b"\x1b[?1;1006h",
        b"\x1b[?1004h",
        b"\x1b[>4;2m",
        b"\x1bc",
        b"\x05",
        "\x9b6n".encode(),
    ],
)
def test_what_reaches_beyond_the_window_is_taken_out_however_it_is_split(attack: bytes) -> None:
    assert Filter().feed(b"a" + attack + b"b") == b"ab"
    split = Filter()
    pieces = [bytes([byte]) for byte in b"a" + attack + b"b"]
    assert b"".join(map(split.feed, pieces)) == b"ab"


def test_an_unfinished_string_sequence_is_never_passed() -> None:
    shown = Filter()
    out = b"".join(shown.feed(b"\x1b]52;c;" + b"A" * 1000 if not n else b"A" * 1000) for n in range(100))
    assert b"\x1b" not in out


@given(st.lists(st.binary(max_size=12), max_size=12))
def test_only_listed_sequences_come_out_of_any_bytes(pieces: list[bytes]) -> None:
    shown = Filter()
    out = b"".join(map(shown.feed, pieces)).decode()
    assert not any("\x80" <= char <= "\x9f" for char in out)
    # Filtering is finished in one pass: nothing that was taken out leaves a new sequence behind it.
    again = Filter()
    assert again.feed(out.encode()).decode() == out


@given(st.text(alphabet="\x1b[]?;0129hlm\x07\\a(0", max_size=30))
def test_no_string_sequence_survives(text: str) -> None:
    out = Filter().feed(text.encode())
    assert b"\x1b]" not in out
