"""Unified diffs: complete, or counted where they are cut."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from workspace_session import Session, fill

from sandbox.workspace import difftext
from sandbox.workspace.difftext import diff_text, unified

LINES = st.lists(st.sampled_from([b"a\n", b"b\n", b"c\n", b"\n", b"d"]), max_size=40).map(b"".join)


def patched(before: bytes, hunks: list[str]) -> bytes:
    """Apply a unified diff strictly."""
    old = before.decode().splitlines(keepends=True)
    new: list[str] = []
    at = 0
    keep = True
    for line in hunks:
        if line.startswith("@@"):
            start, length = line.split()[1][1:].split(",")
            begin = int(start) - 1 if int(length) else int(start)
            new += old[at:begin]
            at = begin
        elif line.startswith("\\"):
            if keep:
                new[-1] = new[-1].removesuffix("\n")
        else:
            keep = line[0] != "-"
            if line[0] in " -":
                assert old[at].rstrip("\n") == line[1:]
                at += 1
            if keep:
                new.append(line[1:] + "\n")
    return "".join(new + old[at:]).encode()


@given(LINES, LINES)
@settings(deadline=None, max_examples=60)
def test_a_diff_carries_exactly_one_content_to_the_other(before: bytes, after: bytes) -> None:
    assert patched(before, list(unified(before, after))) == after


@given(LINES, LINES)
@settings(deadline=None, max_examples=60)
def test_a_diff_too_costly_to_minimise_is_still_complete(before: bytes, after: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(difftext, "_COMPARED", -1)
        assert patched(before, list(unified(before, after))) == after


def test_a_diff_reads_as_a_person_expects(session: Session) -> None:
    fill(session.copy, {"README": "read me\nand this\n", "new": "x\n"})
    (session.copy / "src/app.py").unlink()
    assert list(diff_text(session.dir)) == [
        "--- a/README", "+++ b/README", "@@ -1,1 +1,2 @@", " read me", "+and this",
        "--- /dev/null", "+++ b/new", "@@ -0,0 +1,1 @@", "+x",
        "--- a/src/app.py", "+++ /dev/null", "@@ -1,1 +0,0 @@", "-print('hello')",
    ]  # fmt: skip


def test_only_the_paths_asked_for(session: Session) -> None:
    fill(session.copy, {"README": "x", "src/app.py": "y", "src/b": "z", "srcs": "w"})
    shown = [line for line in diff_text(session.dir, ["./src/"]) if line.startswith("+++")]
    assert shown == ["+++ b/src/app.py", "+++ b/src/b"]


def test_binary_and_large_files_and_long_lines_are_summarised(session: Session) -> None:
    fill(session.copy, {"data.bin": b"\0" * 10, "large": b"x" * (2 << 20), "long": "y" * 5000 + "\n"})
    text = list(diff_text(session.dir))
    assert "# binary: 3 bytes become 10" in text
    assert "# too large to show: 2,097,152 bytes now" in text
    assert any(line.endswith("… (3,000 more characters)") for line in text)


def test_past_a_total_changes_are_still_named(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(difftext, "_TOTAL_CHARS", 10)
    fill(session.copy, {"README": "changed\n", "z": "hidden\n"})
    assert diff_text(session.dir)[-3:] == [
        "--- /dev/null", "+++ b/z", "# not shown: the diff is 0 MB already, ask for this path alone",
    ]  # fmt: skip


def test_bytes_that_are_no_text_come_out_escaped(session: Session) -> None:
    fill(session.copy, {"README": b"caf\xe9 \x1b[31m\n"})
    assert "+caf\\xe9 \x1b[31m" in list(diff_text(session.dir))  # the screen escapes the control character
    "\n".join(diff_text(session.dir)).encode()


def test_what_does_not_cross_is_named_and_never_read(session: Session) -> None:
    os.mkfifo(session.copy / "pipe")
    (session.copy / "out").symlink_to("/etc/passwd")
    text = list(diff_text(session.dir))
    assert "# not applied: a FIFO" in text
    assert "# not applied: a symlink" in text
    assert not any("root:" in line for line in text)


def test_becoming_executable_shows(session: Session) -> None:
    (session.copy / "README").chmod(0o755)
    fill(session.copy, {"script": "x\n"})
    (session.copy / "script").chmod(0o755)
    text = list(diff_text(session.dir))
    assert text[2] == "# becomes executable"
    assert "# becomes executable" in text[3:]


def test_the_diff_is_against_the_directory_as_it_is_now(source: Path, session: Session) -> None:
    fill(session.copy, {"README": "theirs\n"})
    fill(source, {"README": "mine\n"})
    text = list(diff_text(session.dir))
    assert "# conflict: was changed in your directory since the copy" in text
    assert "-mine" in text
