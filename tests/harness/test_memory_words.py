"""Where in a page a query is met."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harness.memory.words import best_line, excerpt, words

CHATTER = "I look at the next part and compare it with what I saw before. " * 20
QUERY = words("What did I decide about the layout of the mailer worker?")


def test_of_a_long_line_the_place_is_shown_that_holds_the_words_together():
    for line in (
        f"{CHATTER}I decided that the mailer worker keeps layout 1111.{CHATTER}",
        f"{CHATTER}I decided that the mailer worker keeps layout 1111.",
        f"I decided that the mailer worker keeps layout 1111.{CHATTER}",
    ):
        assert "mailer worker keeps layout 1111." in excerpt(line, QUERY, 300)


def test_the_line_with_the_words_that_say_most_is_the_best():
    lines = ["what did I do of the", "the mailer worker", "mailer"]
    assert best_line(lines, QUERY) == 1


@given(
    line=st.text(alphabet="ab i\u0130\u00df", max_size=400),
    wanted=st.lists(st.text(alphabet="ab", min_size=1, max_size=80), max_size=5, unique=True),
    size=st.integers(1, 100),
)
def test_an_excerpt_is_of_the_line_and_bounded(line, wanted, size):
    shown = excerpt(line, wanted, size)
    assert shown in line
    assert len(shown) <= size
