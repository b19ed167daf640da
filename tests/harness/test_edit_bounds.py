"""Edits of files that a guest made large and odd: bounded in memory and time, and as exact as ever."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.syscalls.base import Refused
from harness.syscalls.edit import Replacement, apply

MANY = 100_000


def test_more_places_than_are_replaced_are_refused_and_not_collected():
    assert apply(b"a" * MANY, [Replacement(old="a", new="b", all=True)]).data == b"b" * MANY
    with pytest.raises(Refused, match="more than 100,000 times") as refused:
        apply(b"a" * (MANY + 1), [Replacement(old="a", new="b", all=True)])
    assert refused.value.code == "too_large"


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_search_takes_no_longer_for_a_file_that_nearly_matches_everywhere(end):
    with pytest.raises(Refused) as refused:
        apply(end * (1 << 20), [Replacement(old="\n" * 200_000 + "x", new="y")])
    assert refused.value.code == "no_match"


def test_a_file_of_one_line_is_not_searched_for_its_end_from_every_place_in_it():
    data = b"a" * MANY + b"b" * (16 << 20)
    assert apply(data, [Replacement(old="a", new="\n", all=True)]).data == b"\n" * MANY + data[MANY:]


TEXT = st.text("ab\r\n", max_size=12)


@given(TEXT, st.text("ab\r\n", min_size=1, max_size=4))
def test_a_line_feed_stands_for_both_line_ends_exactly_where_one_is(text, old):
    data, raw = text.encode(), old.encode()
    # What it means, said by a pattern: the half of a CR LF is no line end of its own.
    feed = rb"(?:\r\n|(?<!\r)\n)" if b"\r" not in raw else rb"\n"
    wanted = re.sub(feed.join(map(re.escape, raw.split(b"\n"))), b"X", data)
    edit = [Replacement(old=old, new="X", all=True)]
    if wanted == data:
        with pytest.raises(Refused, match="does not occur"):
            apply(data, edit)
    else:
        assert apply(data, edit).data == wanted
