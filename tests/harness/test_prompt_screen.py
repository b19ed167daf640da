"""What an approval prompt shows: nothing of a petition can hide, move the cursor, or pass for the frame."""

from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.approvals.petition import Petition, Scope
from harness.screen.approval_screen import document, framed, page, shown, width_of, wrapped

ALL: tuple[Scope, ...] = ("once", "session", "minutes", "always")


def petition(value: str, said: str = "", *, label: str = "command") -> Petition:
    return Petition("root", "x", ((label, value), ("in", "/workspace")), said, {}, offers=ALL, name="a1")


def text_of(one: Petition, columns: int = 60) -> str:
    return "\n".join(document(one, columns).rows)


def test_every_code_point_that_does_not_show_itself_is_named_and_flags_the_question() -> None:  # D04
    blank = {0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0}
    ignorable = {*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0000, 0xE1000)}
    # test_visible goes through all of them; of those that are not assigned, every 101st is enough here.
    tried = 0
    for code in range(sys.maxunicode + 1):
        char = chr(code)
        category = unicodedata.category(char)
        if category in {"Cn", "Co", "Cs"} and code % 101 and code not in ignorable:
            continue
        hides = category in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"}
        if char in " \n\t" or not (hides or code in blank or code in ignorable):
            continue
        tried += 1
        value, odd = shown(f"a{char}b")
        assert odd, f"U+{code:04X} does not flag the question"
        assert value.isascii(), f"U+{code:04X} is shown as {value!r}"
        assert value.isprintable(), f"U+{code:04X} is shown as {value!r}"
    assert tried > 9000


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("ls\x1b[2K\x1b[1A\x1b[Grm -rf x", r"ls\x1b[2K\x1b[1A\x1b[Grm -rf x"),
        ("\x1b]52;c;AAAA\x07", r"\x1b]52;c;AAAA\x07"),
        ("a\u202eb", "a<U+202E>b"),
        ("ls" + " " * 5000 + "; rm x", "ls␠×5000; rm x"),
        ("ls" + "\t" * 5000 + "; rm x", "ls⇥×5000; rm x"),
        ("ls" + "\n" * 5000 + "; rm x", "ls↵×5000; rm x"),
        ("ls" + " \n" * 2500 + "; rm x", "ls␠×2500↵×2500; rm x"),
        ("ls" + "\u00a0" * 5000 + "; rm x", r"ls\xa0×5000; rm x"),
        ("ls" + "\u200b" * 5000 + "; rm x", "ls<U+200B>×5000; rm x"),
        ("ls" + "\r" * 5000 + "; rm x", r"ls\r×5000; rm x"),
    ],
)
def test_escapes_are_named_and_padding_is_counted(raw: str, expected: str) -> None:  # D01, D03, D05
    assert shown(raw) == (expected, True)
    assert document(petition(raw), 60).flagged
    assert "rm" in text_of(petition(raw)) or "rm" not in raw


def test_a_label_and_a_kind_cannot_hide_anything_either() -> None:
    one = document(petition("ls", label="cwd\u202e"), 60)
    assert one.flagged
    assert "\u202e" not in "".join(one.rows)


def test_an_ordinary_command_is_not_flagged_and_reads_as_it_is() -> None:
    one = document(petition("for f in *.py; do\n\tsed -i 's/ü/ö/' \"$f\"\ndone"), 60)
    assert not one.flagged
    assert one.rows[1:4] == (
        "command     for f in *.py; do↵",
        "          : \\tsed -i 's/ü/ö/' \"$f\"↵",
        "          : done",
    )


def test_no_row_of_a_value_passes_for_another_fact() -> None:  # D08
    rows = document(petition("ls\nin          /safe\n4f2a | in /safe"), 60).rows
    assert [row for row in rows if row.startswith("in ")] == ["in          /workspace"]
    drawn = framed("4f2a", "a1", rows, ("y yes, once",), 70)
    assert all(row.startswith("4f2a ") for row in drawn)
    assert sum(row.startswith("4f2a | in ") for row in drawn) == 1


def test_the_keys_are_broken_between_words_on_a_narrow_terminal() -> None:
    keys = "y yes, once, s for the session, m for 15 minutes, a always, Enter no"
    for columns in range(24, 100):
        rows = framed("4f2a", "a1", (), (keys,), columns)[1:]
        assert " ".join(row.removeprefix("4f2a ") for row in rows) == keys
        assert all(len(row) < columns for row in rows)


def test_the_models_reason_comes_last_quoted_short_and_named_as_its_own() -> None:  # D15
    said = "The user approved this.\ncommand     ls\n" + "x" * 5000
    rows = document(petition("rm -rf x", said), 60).rows
    where = rows.index("The model says, which proves nothing:")
    assert where > rows.index("in          /workspace")
    assert all(row.startswith("> ") for row in rows[where + 1 :])
    assert r"approved this.\ncommand" in rows[where + 1]
    quoted = "".join(row[2:] for row in rows[where + 1 :])
    assert len(quoted) < 280
    assert quoted.endswith(f'" … and {len(said) - 200} characters more')


def test_of_a_long_value_the_end_is_in_sight_on_the_first_page_and_nothing_is_lost() -> None:  # D05, D06
    one = document(petition("".join(f"word{number} " for number in range(5000)) + "; rm -rf x"), 60)
    first = page(one, 0, 8)
    assert not first.whole
    assert len(first.rows) == 8
    assert "rm -rf x" in "".join(row[12:] for row in first.rows[-2:])
    seen: set[int] = set()
    top, whole = 0, False
    while not whole:
        current = page(one, top, 8)
        seen |= set(range(top, current.last))
        assert current.last > top
        top, whole = current.last, current.whole
    assert seen == set(range(len(one.rows)))


def test_what_is_longer_than_any_screen_is_cut_in_the_middle_and_flagged() -> None:
    value, odd = shown("a" * (1 << 20) + "; rm -rf x")
    assert odd
    assert value.endswith("; rm -rf x")
    assert "786442 characters left out" in value
    assert len(value) < 300_000


@given(st.text(st.characters(), max_size=300), st.text(st.characters(), max_size=300), st.integers(24, 120))
def test_no_text_breaks_out_of_its_rows(value: str, said: str, columns: int) -> None:
    for row in document(petition(value, said), columns).rows:
        assert sum(map(width_of, row)) <= columns
        assert all(char.isprintable() for char in row)


@given(st.text(st.characters(codec="utf-8"), max_size=200), st.integers(2, 30))
def test_wrapping_loses_nothing(text: str, columns: int) -> None:
    assert "".join(wrapped(text, columns)) == text


def test_wide_and_combining_characters_take_the_room_a_terminal_gives_them() -> None:
    assert list(wrapped("漢字漢", 4)) == ["漢字", "漢"]
    assert list(wrapped("e\u0301e\u0301", 1)) == ["e\u0301", "e\u0301"]
