"""The manifest survives any name, a kill while it is written, and says when it is not whole."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox.errors import SandboxRefused
from sandbox.workspace import manifest
from sandbox.workspace.manifest import DIRECTORY, FILE, SYMLINK, AppliedLog, Entry, Manifest

NAMES = st.binary(min_size=1, max_size=20).filter(lambda name: b"\0" not in name).map(os.fsdecode)
INTEGERS = st.integers(-(2**63), 2**63 - 1)
ENTRIES = st.builds(
    Entry,
    st.sampled_from([FILE, DIRECTORY, SYMLINK]), st.integers(0, 0o7777), st.integers(0, 0o7777),
    st.integers(0, 1),
    INTEGERS, INTEGERS, INTEGERS, st.integers(0, 2**63 - 1), INTEGERS, INTEGERS, st.integers(0, 2**63 - 1),
)  # fmt: skip


def made(entries: dict[str, Entry]) -> Manifest:
    targets = {path: f"to {path}" for path, entry in entries.items() if entry.kind == SYMLINK}
    return Manifest(Path("/some where"), 1, 2, entries, targets, [("a\udcff", "why")])


@given(st.dictionaries(NAMES, ENTRIES, max_size=8))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
def test_what_is_saved_is_loaded(tmp_path: Path, entries: dict[str, Entry]) -> None:
    manifest.save(tmp_path, made(entries))
    assert manifest.load(tmp_path) == made(entries)


ENTRY = Entry(FILE, 0o644, 0o644, 0, 1, 2, 3, 4, 5, 6, 7)


def test_what_was_applied_is_laid_over_it(tmp_path: Path) -> None:
    manifest.save(tmp_path, made({"a": ENTRY, "b": ENTRY, "d\udcff": ENTRY}))
    with AppliedLog(tmp_path) as log:
        log.record("a", ENTRY._replace(size=9))
        log.record("b", None)
        log.record("c\udcfe", ENTRY)
    assert manifest.load(tmp_path).entries == {
        "a": ENTRY._replace(size=9),
        "c\udcfe": ENTRY,
        "d\udcff": ENTRY,
    }


def test_a_torn_line_never_happened_and_does_not_spoil_the_next(tmp_path: Path) -> None:
    manifest.save(tmp_path, made({"a": ENTRY, "b": ENTRY}))
    with AppliedLog(tmp_path) as log:
        log.record("a", None)
    with (tmp_path / "applied.jsonl").open("ab") as file:
        file.write(b'["b", nul')
    assert manifest.load(tmp_path).entries == {"b": ENTRY}
    with AppliedLog(tmp_path) as log:
        log.record("b", ENTRY._replace(size=7))
    assert manifest.load(tmp_path).entries == {"b": ENTRY._replace(size=7)}


@pytest.mark.parametrize("cut", [1, 40, 100])
def test_an_incomplete_manifest_is_an_error(tmp_path: Path, cut: int) -> None:
    manifest.save(tmp_path, made({f"p{n}": ENTRY for n in range(5)}))
    file = tmp_path / "manifest"
    file.write_bytes(file.read_bytes()[:-cut])
    with pytest.raises(SandboxRefused, match="incomplete"):
        manifest.load(tmp_path)


def test_a_manifest_of_another_version_is_an_error(tmp_path: Path) -> None:
    manifest.save(tmp_path, made({}))
    file = tmp_path / "manifest"
    file.write_bytes(file.read_bytes().replace(b'"version": 1', b'"version": 2'))
    with pytest.raises(SandboxRefused, match="another version"):
        manifest.load(tmp_path)


@pytest.mark.parametrize("junk", [b"", b"\0\1\2junk", b"[]\n", b"{}\n", b"5\n"])
def test_what_is_no_manifest_is_an_error(tmp_path: Path, junk: bytes) -> None:
    (tmp_path / "manifest").write_bytes(junk)
    with pytest.raises(SandboxRefused, match="nothing can be reviewed"):
        manifest.load(tmp_path)


def test_it_is_the_users_alone(tmp_path: Path) -> None:
    manifest.save(tmp_path, made({}))
    assert (tmp_path / "manifest").stat().st_mode & 0o777 == 0o600
