"""Command lines: the strict subset is read exactly, everything else is called unparsed."""

import json
import random
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import shell
from policies.shell import MAX_CHARS, parse

BASE = "usermode/base"


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
        "a; fi", "a && in",
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


@given(st.text())
def test_any_text_is_read_without_an_error(text):
    assert parse(text).text == text


@given(st.lists(st.text("ab'\" ;&|\n$<>=-./\\#!(){}", max_size=6), max_size=8))
def test_what_was_read_reads_the_same_with_every_word_quoted(pieces):
    commands = parse(" ".join(pieces)).commands
    if commands is not None:
        quoted = [" ".join("'" + word.replace("'", "'\"'\"'") + "'" for word in words) for words in commands]
        assert parse("; ".join(quoted)).commands == commands


_LOGGER = r"""
import json, os, subprocess, sys
HANDLER = 'command_not_found_handle() { printf "%s\\0" "$@" "" >&9; }; PATH=/nowhere; '
seen = []
for line in json.load(sys.stdin):
    reader, writer = os.pipe()
    os.dup2(writer, 9)
    os.close(writer)
    subprocess.run(["/bin/bash", "-c", HANDLER + "\n" + line], pass_fds=(9,), stdin=subprocess.DEVNULL,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=20)
    os.close(9)
    with open(reader, "rb") as log:
        seen.append(log.read().decode())
json.dump(seen, sys.stdout)
"""


@pytest.mark.docker
def test_bash_runs_nothing_that_was_not_read():
    """What a real bash runs of random lines, with every command logged instead of run, is what `parse`
    said.
    """
    chance = random.Random(20)
    atoms = [
        "c1",
        "c2",
        "c3",
        "-x",
        "a=b",
        "'q r'",
        '"s t"',
        "%",
        "@",
        "+",
        ",",
        "1",
        "..",
        "if",
        "in",
        "time",
    ]
    atoms += [
        ";",
        "&&",
        "||",
        "|",
        "\n",
        " ",
        " ",
        " ",
        "\t",
        "&",
        "$x",
        "\\",
        "(",
        ")",
        "{",
        "}",
        "!",
        ">",
        "#",
        "*",
    ]
    lines = ["".join(chance.choices(atoms, k=chance.randint(1, 9))) for _ in range(20_000)]
    read = {
        line: commands
        for line in lines
        if (commands := parse(line).commands) and any(c in line for c in ";&|\n")
    }
    sample = list(read)[:400]
    assert len(sample) > 200
    argv = ["docker", "run", "--rm", "-i", "--network", "none", "--cap-drop", "ALL", "--user", "1000", BASE]
    done = subprocess.run(
        [*argv, "python3", "-c", _LOGGER],
        input=json.dumps(sample).encode(),
        stdout=subprocess.PIPE,
        check=True,
        timeout=100,
    )
    ran_some = 0
    for line, log in zip(sample, json.loads(done.stdout), strict=True):
        ran = [tuple(command.split("\0")) for command in log.removesuffix("\0\0").split("\0\0") if log]
        assert set(ran) <= set(read[line]), line
        ran_some += len(ran)
    assert ran_some > 200
