"""Apply: what crosses, how, and that a refusal leaves the user's directory as it was."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from workspace_session import AS_ROOT, Session, fill

from sandbox.workspace.accept import apply
from sandbox.workspace.compare import changes, compare
from sandbox.workspace.copyfile import copy_sparse
from sandbox.workspace.manifest import Manifest
from sandbox.workspace.review import Review

Begin = Callable[..., Session]


def tree(top: Path) -> dict[str, tuple[int, bytes | str | None]]:
    """Everything in a directory: mode, and content, target, or nothing."""
    found: dict[str, tuple[int, bytes | str | None]] = {}
    for path in sorted(top.rglob("*")):
        mode = path.lstat().st_mode
        content: bytes | str | None = None
        if stat.S_ISLNK(mode):
            content = str(path.readlink())
        elif stat.S_ISREG(mode):
            content = path.read_bytes()
        found[str(path.relative_to(top))] = (mode, content)
    return found


def test_ordinary_changes_cross_and_a_second_apply_has_nothing_to_do(source: Path, session: Session) -> None:
    fill(session.copy, {"README": "changed\n", "new/deep/file": "b\n"})
    (session.copy / "src/app.py").unlink()
    (session.copy / "empty").rmdir()
    (session.copy / "void").mkdir()
    (session.copy / "link").unlink()
    report = apply(session.dir)
    assert report.applied == ("README", "empty", "link", "new/deep/file", "src/app.py", "void")
    assert report.skipped == ()
    assert (source / "README").read_text() == "changed\n"
    assert (source / "new/deep/file").read_text() == "b\n"
    assert not (source / "src/app.py").exists()
    assert not (source / "empty").exists()
    assert not (source / "link").is_symlink()
    assert (source / "void").is_dir()
    assert changes(session.dir).changes == ()
    assert apply(session.dir).applied == ()


def test_the_session_may_go_on_after_an_apply(source: Path, session: Session) -> None:
    fill(session.copy, {"README": "one\n", "new/file": "1\n"})
    apply(session.dir)
    fill(session.copy, {"README": "two\n"})
    (session.copy / "new/file").unlink()
    (session.copy / "new").rmdir()
    assert apply(session.dir).applied == ("README", "new", "new/file")
    assert (source / "README").read_text() == "two\n"
    assert not (source / "new").exists()


def test_files_of_any_date_are_copied_reviewed_and_applied(source: Path, begin: Begin) -> None:
    beyond = 15_000_000_000 * 10**9  # the year 2445: more nanoseconds than 63 bits hold
    for name in ("README", "src/app.py"):
        os.utime(source / name, ns=(beyond, beyond))
    session = begin()
    assert changes(session.dir).changes == ()
    fill(session.copy, {"README": "changed\n", "new": "new\n"})
    os.utime(session.copy / "new", ns=(beyond, beyond))
    found = {change.path: change.conflict for change in changes(session.dir).changes}
    assert found == {"README": None, "new": None}
    assert apply(session.dir).applied == ("README", "new")
    assert changes(session.dir).changes == ()


def test_only_the_paths_asked_for_cross(source: Path, session: Session) -> None:
    fill(session.copy, {"README": "x", "src/app.py": "y", "src/util/text.py": "z"})
    assert apply(session.dir, ["src/util/", "./README"]).applied == ("README", "src/util/text.py")
    assert (source / "src/app.py").read_text() == "print('hello')\n"


def test_a_path_that_names_no_change_is_said_to(session: Session) -> None:
    fill(session.copy, {"README": "x"})
    assert apply(session.dir, ["REDME"]).skipped == (("REDME", "nothing changed here"),)


@pytest.mark.parametrize("path", ["..", "../x", "/etc/passwd", "src/../../x"])
def test_a_path_outside_the_root_names_nothing(source: Path, session: Session, path: str) -> None:
    fill(session.copy, {"README": "x"})
    before = tree(source.parent)
    assert apply(session.dir, [path]).applied == ()
    assert {k: v for k, v in tree(source.parent).items() if k.startswith("project")} == {
        k: v for k, v in before.items() if k.startswith("project")
    }


def test_what_runs_on_the_host_crosses_only_by_name_or_on_request(source: Path, session: Session) -> None:
    fill(session.copy, {"Makefile": "all:\n", "ci/conftest.py": "x\n", "tool": "#!/bin/sh\n"})
    (session.copy / "tool").chmod(0o755)
    report = apply(session.dir)
    assert report.applied == ()
    assert [path for path, _ in report.skipped] == ["Makefile", "ci/conftest.py", "tool"]
    assert "name it" in dict(report.skipped)["Makefile"]
    assert apply(session.dir, ["ci"]).applied == ()  # a directory does not name what is in it
    assert apply(session.dir, ["Makefile"]).applied == ("Makefile",)
    assert apply(session.dir, executable=True).applied == ("ci/conftest.py", "tool")
    assert (source / "tool").stat().st_mode & 0o100


def test_commits_cross_when_a_git_path_is_named_and_hooks_still_do_not(source: Path, begin: Begin) -> None:
    fill(source, {".git/HEAD": "ref: refs/heads/main\n", ".git/config": "[core]\n"})
    session = begin()
    fill(
        session.copy, {".git/refs/heads/main": "abc\n", ".git/hooks/post-merge": "#!/bin/sh\n", "README": "x"}
    )
    (session.copy / ".git/config").write_text("[core]\n\tfsmonitor = touch /canary\n")
    assert apply(session.dir).applied == ("README",)
    assert apply(session.dir, ["."]).applied == ()
    assert apply(session.dir, [".git"]).applied == (".git/refs/heads/main",)
    assert (source / ".git/config").read_text() == "[core]\n"
    assert not (source / ".git/hooks").exists()
    assert apply(session.dir, [".git/config"]).applied == (".git/config",)


def test_a_conflict_is_kept_until_forced(source: Path, session: Session) -> None:
    fill(session.copy, {"README": "theirs", "made": "theirs"})
    (session.copy / "run").unlink()
    fill(source, {"README": "mine", "made": "mine", "run": "mine"})
    report = apply(session.dir)
    assert report.applied == ()
    assert {path for path, _ in report.skipped} == {"README", "made", "run"}
    assert (source / "README").read_text() == "mine"
    assert apply(session.dir, force=True).applied == ("README", "made", "run")
    assert (source / "README").read_text() == "theirs"
    assert not (source / "run").exists()


def test_modes_of_the_user_are_kept_and_special_bits_are_not_made(source: Path, begin: Begin) -> None:
    (source / "README").chmod(0o640)
    session = begin()
    fill(session.copy, {"README": "x", "loose": "y"})
    (session.copy / "README").chmod(0o666)
    (session.copy / "loose").chmod(0o666)
    before = os.umask(0o027)
    try:
        apply(session.dir)
    finally:
        os.umask(before)
    assert stat.S_IMODE((source / "README").stat().st_mode) == 0o640
    assert stat.S_IMODE((source / "loose").stat().st_mode) == 0o640


def test_execution_given_and_taken(source: Path, session: Session) -> None:
    (session.copy / "README").chmod(0o755)
    (session.copy / "run").chmod(0o644)
    (source / "README").chmod(0o640)
    apply(session.dir, executable=True, force=True)
    assert stat.S_IMODE((source / "README").stat().st_mode) == 0o750
    assert stat.S_IMODE((source / "run").stat().st_mode) == 0o644
    assert changes(session.dir).changes == ()


@pytest.mark.skipif(not AS_ROOT, reason="only root can make another user's file")
def test_nothing_in_the_users_directory_ends_up_owned_by_root(source: Path, begin: Begin) -> None:
    for path in (source, *source.rglob("*")):
        os.chown(path, 4000, 4001, follow_symlinks=False)
    session = begin()
    fill(session.copy, {"README": "x", "new/deep/file": "y"})
    apply(session.dir)
    assert {(path.lstat().st_uid, path.lstat().st_gid) for path in source.rglob("*")} == {(4000, 4001)}


def test_file_to_directory_and_back(source: Path, session: Session) -> None:
    (session.copy / "README").unlink()
    fill(session.copy, {"README/inside": "x"})
    (session.copy / "src/util/text.py").unlink()
    (session.copy / "src/util").rmdir()
    fill(session.copy, {"src/util": "a file now"})
    (session.copy / "link").unlink()
    fill(session.copy, {"link": "a file now"})
    assert apply(session.dir).skipped == ()
    assert (source / "README/inside").read_text() == "x"
    assert (source / "src/util").read_text() == "a file now"
    assert not (source / "link").is_symlink()
    assert changes(session.dir).changes == ()


def test_a_directory_that_still_holds_the_users_files_stays(source: Path, begin: Begin) -> None:
    fill(source, {"src/.env": "SECRET=1"})
    session = begin()
    for path in ("src/app.py", "src/util/text.py"):
        (session.copy / path).unlink()
    (session.copy / "src/util").rmdir()
    (session.copy / "src").rmdir()
    report = apply(session.dir)
    assert dict(report.skipped) == {"src": "not empty in your directory"}
    assert (source / "src/.env").read_text() == "SECRET=1"


def test_nothing_blocked_crosses_even_when_forced(source: Path, session: Session) -> None:
    (session.copy / "out").symlink_to("/etc/passwd")
    (session.copy / "src/app.py").unlink()
    (session.copy / "src/app.py").symlink_to("/etc/passwd")
    os.mkfifo(session.copy / "pipe")
    fill(session.copy, {"suid": "x"})
    (session.copy / "suid").chmod(0o4755)
    Path(os.fsdecode(os.fsencode(session.copy) + b"/a\nb")).write_text("x")
    before = tree(source)
    report = apply(session.dir, force=True, executable=True)
    assert report.applied == ()
    assert len(report.skipped) == 5
    assert tree(source) == before


def test_a_symlink_in_the_users_own_directory_is_not_written_through(
    tmp_path: Path, source: Path, begin: Begin
) -> None:
    outside = tmp_path / "outside"
    fill(outside, {"victim": "canary", "app.py": "canary"})
    (source / "out").symlink_to(outside)
    session = begin()
    (session.copy / "out").unlink()
    fill(session.copy, {"out/victim": "pwned", "out/fresh": "pwned", "src/app.py": "changed"})
    (source / "src").rename(source / "moved")
    (source / "src").symlink_to(outside)
    assert apply(session.dir, force=True, executable=True).applied == ()
    assert {path.name: path.read_text() for path in outside.iterdir()} == {
        "victim": "canary",
        "app.py": "canary",
    }


def test_a_file_the_user_has_as_a_hard_link_elsewhere_is_replaced_not_rewritten(
    tmp_path: Path, source: Path, begin: Begin
) -> None:
    os.link(source / "README", tmp_path / "elsewhere")
    session = begin()
    fill(session.copy, {"README": "changed"})
    apply(session.dir)
    assert (tmp_path / "elsewhere").read_text() == "read me\n"
    assert (source / "README").read_text() == "changed"


def test_what_changed_after_the_review_does_not_cross(source: Path, session: Session) -> None:
    fill(session.copy, {"README": "reviewed", "src/app.py": "reviewed"})
    review = changes(session.dir)
    fill(session.copy, {"README": "swapped!", "later": "x"})
    report = apply(session.dir, reviewed=review)
    assert report.applied == ("src/app.py",)
    assert dict(report.skipped) == dict.fromkeys(("README", "later"), "changed since it was reviewed")
    assert (source / "README").read_text() == "read me\n"


def test_what_the_guest_changes_after_it_was_judged_does_not_cross(
    source: Path, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(session.copy, {"README": "judged", "src/app.py": "judged"})

    def judged_then_swapped(known: Manifest, copy: int, top: int) -> Review:
        review = compare(known, copy, top)
        fill(session.copy, {"README": "swapped"})
        fill(source, {"src/app.py": "the user's own edit"})
        return review

    monkeypatch.setattr("sandbox.workspace.accept.compare", judged_then_swapped)
    report = apply(session.dir)
    assert report.applied == ()
    assert dict(report.skipped) == {
        "README": "changed while it was applied",
        "src/app.py": "changed in your directory while it was applied",
    }
    assert (source / "README").read_text() == "read me\n"
    assert (source / "src/app.py").read_text() == "the user's own edit"


def test_what_the_guest_changes_while_it_is_copied_does_not_cross(
    source: Path, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(session.copy, {"README": "judged"})

    def copied_then_changed(content: int, target: int, size: int) -> None:
        copy_sparse(content, target, size)
        fill(session.copy, {"README": "swapped"})

    monkeypatch.setattr("sandbox.workspace.accept.copy_sparse", copied_then_changed)
    assert dict(apply(session.dir).skipped) == {"README": "changed while it was applied"}
    assert (source / "README").read_text() == "read me\n"
    assert not list(source.rglob(".usermode*"))


def test_a_run_cut_short_has_deleted_nothing_that_was_to_be_moved(
    source: Path, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    (session.copy / "src").rename(session.copy / "zzz")

    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            apply(session.dir)
    assert (source / "src/app.py").exists()
    assert not list(source.rglob(".usermode*"))
    apply(session.dir)
    assert (source / "zzz/app.py").read_text() == "print('hello')\n"
    assert not (source / "src").exists()


def test_a_killed_apply_is_taken_up_where_it_was(
    source: Path, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(session.copy, {f"f{n}": "x" for n in range(6)} | {"README": "changed"})
    (session.copy / "run").unlink()
    real, calls = os.rename, 0

    def dies(*arguments: object, **options: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            real(*arguments, **options)  # type: ignore[arg-type]
            raise KeyboardInterrupt  # renamed, not logged
        real(*arguments, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", dies)
        with pytest.raises(KeyboardInterrupt):
            apply(session.dir)
    with (session.dir / "applied.jsonl").open("ab") as log:
        log.write(b'["torn')
    report = apply(session.dir)
    assert report.skipped == ()
    assert (source / "README").read_text() == "changed"
    assert {path.name for path in source.glob("f*")} == {f"f{n}" for n in range(6)}
    assert not (source / "run").exists()
    assert changes(session.dir).changes == ()
    assert not list(source.rglob(".usermode*"))


def test_a_leftover_of_a_killed_run_is_cleared(
    source: Path, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(session.copy, {"README": "changed"})
    monkeypatch.setattr("sandbox.workspace.accept._temporary", lambda path: ".usermode-x.tmp")
    fill(source, {".usermode-x.tmp": "half"})
    assert apply(session.dir).applied == ("README",)
    assert not (source / ".usermode-x.tmp").exists()


def test_a_sparse_file_stays_sparse(source: Path, session: Session) -> None:
    with (session.copy / "sparse").open("wb") as file:
        file.truncate(1 << 30)
        file.seek(1 << 29)
        file.write(b"x" * (1 << 20))
    assert apply(session.dir).applied == ("sparse",)
    assert (source / "sparse").stat().st_size == 1 << 30
    assert (source / "sparse").stat().st_blocks * 512 < 4 << 20
