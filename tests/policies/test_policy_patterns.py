"""Paths and hosts have one canonical form, and patterns mean what they look like."""

import pytest

from policies.patterns import (
    canonical_host,
    check_host_pattern,
    check_path_pattern,
    host_covers,
    host_matches,
    normal_path,
    path_matches,
)


@pytest.mark.parametrize(
    ("path", "normal"),
    [
        ("/workspace/a", "/workspace/a"),
        ("//workspace/a", "/workspace/a"),
        ("/workspace/./a//b/", "/workspace/a/b"),
        ("/workspace/../etc/passwd", "/etc/passwd"),
        ("/../..", "/"),
        ("/", "/"),
        ("workspace/a", None),
        ("", None),
        ("~/a", None),
        ("/a\0b", None),
        ("/" + "a" * 70_000, None),
    ],
)
def test_a_path_has_one_normal_form(path, normal):
    assert normal_path(path) == normal


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("/workspace/**", ["/workspace", "/workspace/a/b/.c"], ["/workspace-evil/a", "/Workspace/a"]),
        ("/workspace/*", ["/workspace/a", "/workspace/.env"], ["/workspace", "/workspace/a/b"]),
        ("/**/.env", ["/.env", "/a/b/.env"], ["/a/.env/b", "/a/x.env"]),
        ("/a/**/b/**/c", ["/a/b/c", "/a/x/b/y/z/c", "/a/b/b/c/c"], ["/a/c/b", "/a/b/c/d"]),
        ("/a/*.p?", ["/a/x.py", "/a/.pl"], ["/a/x.p", "/a/x.pyc", "/a/b/x.py"]),
        ("/a*b*c", ["/abc", "/aXbYc", "/abbcc"], ["/ab", "/abcd", "/a/bc"]),
        ("/**", ["/", "/a/b"], []),
        ("/etc/passwd", ["/etc/passwd"], ["/etc/passwd2", "/etc", "/etc/passwd/x"]),
        ("/a.c", ["/a.c"], ["/abc"]),
    ],
)  # fmt: skip
def test_path_patterns(pattern, yes, no):
    assert check_path_pattern(pattern) == pattern
    assert [path for path in yes if not path_matches(pattern, path)] == []
    assert [path for path in no if path_matches(pattern, path)] == []


def test_a_hostile_path_cannot_make_matching_slow():
    # Exponential or high polynomial time would not come back from this within the suite's time limit.
    assert not path_matches("/" + "**/a/" * 12 + "b", "/a" * 4000)
    assert not path_matches("/" + "*a" * 40 + "b", "/" + "a" * 4000)


@pytest.mark.parametrize(
    ("host", "canonical"),
    [
        ("Example.ORG", "example.org"),
        ("example.org.", "example.org"),
        ("localhost", "localhost"),
        ("xn--bcher-kva.test", "xn--bcher-kva.test"),
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1.", "127.0.0.1"),
        ("[::1]", "::1"),
        ("::0:1", "::1"),
        ("[::FFFF:127.0.0.1]", "::ffff:127.0.0.1"),
    ],
)
def test_a_host_has_one_canonical_form(host, canonical):
    assert canonical_host(host) == canonical


@pytest.mark.parametrize(
    "host",
    [
        "", ".", "example.org..", ".example.org", "a..b", "-a.test", "a-.test", "under_score.test",
        "a b.test", "bücher.test", "еxample.test", "example。org", "a.test\0.evil.test",
        "a.test\r\nHost: b", "a.test\\@b", "a.test#@b", "user@a.test", "a.test:443", "a" * 64 + ".test",
        "a." * 127 + "test", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.1", "0", "1.2.3.4.5",
        "256.1.1.1", "a.test.1", "[fe80::1%eth0]", "fe80::1%25lo", "[::1", "::1]", "[127.0.0.1]x", ":",
        "example.org%00", "*.a.test", "\u212a.test",
    ],
)  # fmt: skip
def test_what_is_no_plain_host_name_or_address_is_no_host(host):
    assert canonical_host(host) is None


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("allowed.test", ["allowed.test"], ["evilallowed.test", "a.allowed.test", "allowed.test.evil.test"]),
        (
            "*.wild.test",
            ["a.wild.test", "a.b.wild.test"],
            ["wild.test", "evilwild.test", "wild.test.evil.test"],
        ),
        ("127.0.0.1", ["127.0.0.1"], ["127.0.0.2"]),
        ("::1", ["::1"], ["::2"]),
    ],
)
def test_host_patterns(pattern, yes, no):
    assert check_host_pattern(pattern.upper()) == pattern
    assert [host for host in yes if not host_matches(pattern, host)] == []
    assert [host for host in no if host_matches(pattern, host)] == []


@pytest.mark.parametrize(
    "pattern", ["*", "*.", "*.*.test", "*.127.0.0.1", "*.1", "a.*.test", "*a.test", "a.test/x", "*.::1"]
)
def test_a_wildcard_that_could_mean_an_address_or_anything_cannot_be_written(pattern):
    with pytest.raises(ValueError, match="a host is a name"):
        check_host_pattern(pattern)


def test_a_wildcard_never_matches_an_address():
    assert not host_matches("*.0.0.1", "127.0.0.1")


def test_which_host_patterns_cover_which():
    assert host_covers("*.a.test", "x.a.test")
    assert host_covers("*.a.test", "*.b.a.test")
    assert host_covers("*.a.test", "*.a.test")
    assert not host_covers("*.a.test", "a.test")
    assert not host_covers("*.b.a.test", "*.a.test")
    assert not host_covers("x.a.test", "*.a.test")
    assert not host_covers("*.a.test", "*.xa.test")
