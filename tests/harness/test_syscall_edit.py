"""Edits: exact, all or none, and blind to nothing outside the match."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from harness.syscalls.base import Refused
from harness.syscalls.edit import Replacement, apply


def edit(data: bytes, *pairs: tuple[str, str], all: bool = False) -> bytes:
    return apply(data, [Replacement(old=old, new=new, all=all) for old, new in pairs]).data


def refusal(data: bytes, *pairs: tuple[str, str], all: bool = False) -> Refused:
    with pytest.raises(Refused) as caught:
        edit(data, *pairs, all=all)
    return caught.value


def test_a_unique_text_is_replaced():
    assert edit(b"one two three", ("two", "2")) == b"one 2 three"


def test_several_edits_are_looked_up_in_the_same_original():
    assert edit(b"a b", ("a", "b"), ("b", "a")) == b"b a"


def test_lines_are_told_where_they_were():
    assert apply(b"a\nb\nc\n", [Replacement(old="c", new="x"), Replacement(old="a", new="y")]).lines == (1, 3)


def test_an_ambiguous_text_is_refused_with_its_places():
    refused = refusal(b"x = 1\ny = 2\nx = 1\n", ("x = 1", "x = 2"))
    assert refused.code == "ambiguous"
    assert "line 1, 3" in refused.content


def test_occurrences_that_overlap_are_two_places():
    assert refusal(b"aaa", ("aa", "b")).code == "ambiguous"


def test_every_occurrence_is_replaced_when_asked_for():
    assert edit(b"x x x", ("x", "yy"), all=True) == b"yy yy yy"


def test_edits_that_overlap_are_refused_and_nothing_happens():
    refused = refusal(b"abcdef", ("abcd", "x"), ("cdef", "y"))
    assert refused.code == "conflict"
    assert "edits.0 and edits.1" in refused.content


def test_neighbours_do_not_overlap():
    assert edit(b"abcd", ("ab", "1"), ("cd", "2")) == b"12"


def test_an_edit_that_changes_nothing_is_refused():
    assert refusal(b"a", ("a", "a")).code == "bad_arguments"


@pytest.mark.parametrize(
    ("data", "old", "new", "expected"),
    [
        (b"a\r\nb\r\nc\r\n", "a\nb", "x\ny\nz", b"x\r\ny\r\nz\r\nc\r\n"),
        (b"a\r\nb\r\n", "b", "b\nb2", b"a\r\nb\r\nb2\r\n"),
        (b"a\r\nb", "b", "b\nb2", b"a\r\nb\r\nb2"),
        (b"a\nb\r\nc\n", "a", "a\na2", b"a\na2\nb\r\nc\n"),
        (b"a\nb\r\nc\n", "b", "b\nb2", b"a\nb\r\nb2\r\nc\n"),
        (b"a\r\nb\r\n", "a\r\nb", "a\nb!", b"a\nb!\r\n"),
        (b"a\nb\n", "a\n", "x\n", b"x\nb\n"),
        (b"a\r\nb\r\n", "\nb", "\nx", b"a\r\nx\r\n"),
    ],
)
def test_line_ends_stay_as_the_place_has_them(data, old, new, expected):
    assert edit(data, (old, new)) == expected


def test_what_is_not_utf8_around_a_match_stays_as_it_was():
    assert edit(b"\xff\xfe\x00 name \x80\x81", ("name", "n\u00e4me")) == b"\xff\xfe\x00 n\xc3\xa4me \x80\x81"


def test_a_byte_order_mark_and_a_missing_last_newline_stay():
    assert edit(b"\xef\xbb\xbffirst\nlast", ("first", "1st")) == b"\xef\xbb\xbf1st\nlast"


def test_regular_expression_characters_are_only_characters():
    assert edit(b"a.*(b)[c]$", (".*(b)[c]$", "\\1\\g<0>")) == b"a\\1\\g<0>"


def test_a_near_miss_shows_the_closest_lines_and_is_never_applied():
    data = b"def add(a, b):\n    return a + b\n\ndef sub(a, b):\n\treturn a - b\n"
    refused = refusal(data, ("def sub(a, b):\n    return a - b", "x"))
    assert refused.code == "no_match"
    assert "white space only" in refused.content
    assert "     4\tdef sub(a, b):\n     5\t\treturn a - b" in refused.content


def test_a_typo_finds_its_line():
    refused = refusal(b"alpha = compute_total(x)\nbeta = 2\n", ("alpha = compute_totals(x)", "y"))
    assert "     1\talpha = compute_total(x)" in refused.content


def test_a_far_miss_shows_nothing():
    assert "No part of it is similar" in refusal(b"abc\ndef\n", ("0123456789 zzzz", "y")).content


def test_a_near_miss_in_a_long_file_is_found_too():
    lines = [f"value_{number} = compute(first, second, {number})" for number in range(20_000)]
    refused = refusal("\n".join(lines).encode(), ("value_77 = compute(first, second, 7777)", "y"))
    assert refused.code == "no_match"
    assert "\tvalue_77" in refused.content


@given(st.binary(max_size=60), st.text(min_size=1, max_size=6), st.text(max_size=6), st.binary(max_size=60))
def test_bytes_outside_the_match_never_change(before, old, new, after):
    raw = old.encode()
    data = before + raw + after
    assume(old != new and "\n" not in new and b"\r" not in data)
    assume(data.find(raw, data.find(raw) + 1) < 0)
    assert edit(data, (old, new)) == before + new.encode() + after
