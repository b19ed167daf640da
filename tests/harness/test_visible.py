"""Everything shown to a person goes through `visible`: nothing it returns can move a cursor or hide."""

from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.visible import MARKS_IN_A_ROW, visible

HIDING = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
# Default-ignorable code points and blanks that the general category alone does not give away.
_INVISIBLE_HEX = """
    00AD 034F 061C 115F 1160 17B4 17B5 180B 180E 180F 200B 200F 2060 206F 2800 3164 FE00 FE0F FEFF FFA0 FFF0
    1BCA0 1D173 E0001 E0041 E007F E0100 E01EF E0FFF
"""
INVISIBLE = [int(code, 16) for code in _INVISIBLE_HEX.split()]


def test_every_code_point_that_hides_or_controls_is_escaped():
    for block in range(0, sys.maxunicode + 1, 4096):
        codes = range(block, block + 4096)
        if all(unicodedata.category(chr(code)) in HIDING for code in codes):
            # Nine tenths of them are in nobody's use: a whole block at once.
            assert visible("".join(map(chr, codes))) == "".join(f"<U+{code:04X}>" for code in codes)
        else:
            one_by_one(codes)


def one_by_one(codes):
    for code in codes:
        char = chr(code)
        hides = unicodedata.category(char) in HIDING or (unicodedata.category(char) == "Zs" and char != " ")
        shown = visible("a" + char)[1:]
        if hides:
            assert shown != char, f"U+{code:04X} is shown raw"
            assert shown.isascii(), f"U+{code:04X} is shown as {shown!r}"
            assert shown.isprintable(), f"U+{code:04X} is shown as {shown!r}"
        assert unicodedata.category(shown[0]) not in HIDING


@pytest.mark.parametrize("code", INVISIBLE)
def test_invisible_code_points_are_named(code):
    expected = f"\\x{code:02x}" if code < 0x100 else f"<U+{code:04X}>"
    assert visible(f"a{chr(code)}b") == f"a{expected}b"


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("ls\x1b[2K\x1b[1Arm", r"ls\x1b[2K\x1b[1Arm"),
        ("\x1b]52;c;aGk=\x07", r"\x1b]52;c;aGk=\x07"),
        ("a\x9b2Jb", r"a\x9b2Jb"),
        ("x\u202eexe.txt", "x<U+202E>exe.txt"),
        ("a\r\nb\tc", r"a\r\nb\tc"),
        ("pass\u00a0word", r"pass\xa0word"),
        ("\udc80", "<U+DC80>"),
        ("Grüße, 世界, नमस्ते 🙂", "Grüße, 世界, नमस्ते 🙂"),
        ("", ""),
    ],
)
def test_what_is_printable_stays_and_the_rest_is_escaped(raw, shown):
    assert visible(raw) == shown


def test_newline_and_tab_are_kept_when_asked_and_carriage_return_never():
    assert visible("a\n\tb\r\n", multiline=True) == "a\n\tb\\r\n"


def test_combining_marks_need_a_base_and_cannot_pile_up():
    assert visible("e\u0301") == "e\u0301"
    assert visible("\u0301x") == "<U+0301>x"
    assert visible(" \u0301") == " <U+0301>"
    piled = visible("a" + "\u0335" * 50)
    assert piled.count("\u0335") == MARKS_IN_A_ROW
    assert piled.count("<U+0335>") == 50 - MARKS_IN_A_ROW


@given(st.text(st.characters()))
def test_showing_twice_changes_nothing_more(text):
    assert visible(visible(text)) == visible(text)
    block = visible(text, multiline=True)
    assert visible(block, multiline=True) == block
    assert all(char.isprintable() or char in "\n\t" for char in block)
