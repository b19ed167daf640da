"""Command lines: the strict subset is read exactly, everything else is called unparsed."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies import shell
from policies.shell import MAX_CHARS, MAX_COMMANDS, MAX_WORDS, flat, flat_words, mentions, parse


@pytest.mark.parametrize(
    ("text", "commands"),
    [
        ("ls", [["ls"]]),
        ("  ls  -l\t/a ", [["ls", "-l", "/a"]]),
        ("a && b || c; d | e\nf;", [["a"], ["b"], ["c"], ["d"], ["e"], ["f"]]),
        ("a &&\n\n b |\nc\n\n", [["a"], ["b"], ["c"]]),
        ("a&&b|c;d", [["a"], ["b"], ["c"], ["d"]]),
        ("grep 'a b; c | $(d)' \"x y\"", [["grep", "a b; c | $(d)", "x y"]]),
        ("git log --format='%h %s' -n 5", [["git", "log", "--format=%h %s", "-n", "5"]]),
        ("a'b'\"c\"d", [["abcd"]]),
        ("echo '' \"\"", [["echo", "", ""]]),
        ("dd if=a of=b 12 a:b@c,d%e+f", [["dd", "if=a", "of=b", "12", "a:b@c,d%e+f"]]),
        ("echo if then in for", [["echo", "if", "then", "in", "for"]]),
    ],
)
def test_plain_lines_are_read_word_for_word(text, commands):
    assert parse(text).commands == tuple(map(tuple, commands))
    assert parse(text).why == ""


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "\n", ";", "a;;b", "| a", "a |", "a &&", "&& a", "a ;; b", "a; ;b", "a\n;b", "a & b",
        "a &", "a |& b", "a > b", "a < b", "a >> b", "a 2>&1", "a <<E\nE", "a <<< b", "a <(b)", "a >(b)",
        "$(a)", "`a`", "a $b", "a ${b}", "a $((1))", "a $[1]", 'a "$b"', 'a "`b`"', "a $'b'", 'a $"b"',
        "X=1 a", "X=1", "X+=1 a", "! a", "{ a; }", "(a)", "((1))", "[[ a ]]", "[ a ]", "if a; then b; fi",
        "for a in b; do c; done", "while a; do b; done", "case a in b) c;; esac", "a() { b; }",
        "function a { b; }", "coproc a", "time a", "select a in b; do c; done", "until a; do b; done",
        "a # b", "# a", "a *", "a ?", "a [b]", "a {b,c}", "a ~", "~/a", "a\\b", "a\\\nb", "a \\; b",
        "a 'b", 'a "b', 'a "b\\"c"', "a\rb", "a\0b", "a\x0bb", "a\xa0b", "a\u2003b", "a é", "a \u202eb",
        "a\x1b[2K", "a 'b\nc'", 'a "b\nc"', 'a "b!c"', "a ^b", "a" * (MAX_CHARS + 1), "ls\n)", "then",
        "a; fi", "a && in", "%x", "a; %1", "'%x'",
        "'A'=1", "'A=1' a", "a%b",
        "a;" * (MAX_COMMANDS + 1),
        "a " * (MAX_WORDS + 1),
    ],
)  # fmt: skip
def test_everything_else_is_unparsed_and_says_why(text):
    parsed = parse(text)
    assert parsed.commands is None
    assert parsed.why


def test_two_readers_that_disagree_make_a_line_unparsed(monkeypatch):
    monkeypatch.setattr(shell, "_scan", lambda text: (("ls",),))
    assert parse("ls").commands == (("ls",),)
    for text in ("ls; rm x", "rm x", "X=1 ls", "ls > x", "ls $x", "ls &", "(ls)", "'l's x"):
        assert parse(text).commands is None


NAMES = st.sampled_from(
    ["if", "then", "in", "for", "case", "time", "coproc", "A=1", "a+=b", "%x", "-", "--x=y", "=", "12", "0x1"]
)
JOINTS = st.sampled_from(["&&", "||", ";", "|", "&", "\n", " ", " ", "\t", "  "])
PLAIN = st.lists(NAMES | st.text("a1_./,:@%+=-", max_size=4) | JOINTS, max_size=12).map("".join)


def test_where_nothing_is_quoted_the_grammar_reads_nothing_else():
    """It knows some words for nothing, such as `1=`; bash says who is right (test_parser_differential.py)."""
    agreed = []

    @settings(max_examples=400)
    @given(PLAIN)
    def one(text):
        commands = parse(text).commands
        if commands is not None:
            by_grammar = shell._grammar_reading(text)
            assert by_grammar in (commands, None)
            agreed.append(by_grammar is not None)

    one()
    # How many come of chance differs; what matters is that lines were compared.
    assert sum(agreed) > 10
    assert agreed.count(False) < sum(agreed)


@given(st.text(st.characters()))
def test_any_text_is_read_without_an_error(text):
    assert parse(text).text == text


def test_half_of_a_surrogate_pair_is_no_text():
    assert parse("echo '\ud800'").commands is None


@given(st.lists(st.text("ab'\" ;&|\n$<>=-./\\#!(){}", max_size=6), max_size=8))
def test_what_was_read_reads_the_same_with_every_word_quoted(pieces):
    commands = parse(" ".join(pieces)).commands
    if commands is not None:
        quoted = [" ".join("'" + word.replace("'", "'\"'\"'") + "'" for word in words) for words in commands]
        assert parse("; ".join(quoted)).commands == commands


def test_a_long_line_is_never_given_to_the_second_reader(monkeypatch):
    """The scanner stops first, so the time to read is bounded whatever the model sends."""
    given_to_it = []
    monkeypatch.setattr(shell, "_grammar_reading", lambda text: given_to_it.append(len(text)))
    monkeypatch.setattr(shell, "_split_reading", lambda text: given_to_it.append(len(text)))
    for line in (
        "ls;" * 350_000,
        "a " * 500_000,
        "x" * (1 << 20),
        "'" * (1 << 20),
        "a;" * (MAX_COMMANDS + 1),
    ):
        assert parse(line).commands is None
    assert given_to_it == []
    for line in ("a;" * MAX_COMMANDS, "''a;" * MAX_COMMANDS):
        parse(line)
    assert given_to_it == [2 * MAX_COMMANDS, 4 * MAX_COMMANDS]


class Searched(bytes):
    """Counts how far into it a search looked."""

    looked = 0

    def find(self, word, at=0):
        found = super().find(word, at)
        self.looked += (len(self) if found < 0 else found) - at
        return found


@pytest.mark.parametrize("unit", ["git ", "xgit gitx ", "git/", "push git "])
def test_a_refusal_reads_a_long_text_no_more_than_once(unit):
    text = Searched(flat(unit * 10_000))
    assert not mentions(flat_words("git push never"), text)
    assert text.looked <= len(text) + 10
