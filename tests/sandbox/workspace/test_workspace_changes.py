"""What counts as a change, how it is classed, and what never crosses."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from workspace_session import AS_ROOT, Session, fill

from sandbox.workspace.accept import apply
from sandbox.workspace.compare import Change, changes

Begin = Callable[..., Session]


def by_path(session: Session) -> dict[str, Change]:
    return {change.path: change for change in changes(session.dir).changes}


def test_an_untouched_copy_has_no_changes(session: Session) -> None:
    assert changes(session.dir).changes == ()


def test_writing_the_same_bytes_again_is_no_change(session: Session) -> None:
    (session.copy / "README").write_text("read me\n")
    (session.copy / "new").write_text("x")
    (session.copy / "new").rename(session.copy / "README")
    (session.copy / "README").write_text("read me\n")
    os.utime(session.copy / "data.bin")
    assert changes(session.dir).changes == ()


def test_each_kind_of_change_is_found(session: Session) -> None:
    fill(session.copy, {"README": "changed\n", "added": "a", "new/deep/file": "b", "data.bin": b"\0\1\2"})
    (session.copy / "src/app.py").unlink()
    (session.copy / "run").chmod(0o644)
    (session.copy / "void").mkdir()
    (session.copy / "empty").rmdir()
    (session.copy / "link").unlink()
    found = {path: (change.kind, change.node) for path, change in by_path(session).items()}
    assert found == {
        "README": ("modified", "file"),
        "added": ("added", "file"),
        "new/deep/file": ("added", "file"),
        "src/app.py": ("deleted", "file"),
        "run": ("mode", "file"),
        "void": ("added", "directory"),
        "empty": ("deleted", "directory"),
        "link": ("deleted", "symlink"),
    }


def test_a_change_cannot_hide_behind_its_old_size_and_time(session: Session) -> None:
    target = session.copy / "src/app.py"
    before = target.stat()
    target.write_text("print('HELLO')\n")
    os.utime(target, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert by_path(session)["src/app.py"].kind == "modified"


def test_a_file_that_became_a_directory_and_the_other_way(session: Session) -> None:
    (session.copy / "README").unlink()
    fill(session.copy, {"README/inside": "x"})
    (session.copy / "empty").rmdir()
    (session.copy / "empty").write_text("now a file")
    found = by_path(session)
    assert (found["README"].kind, found["README"].node) == ("type", "directory")
    assert found["README/inside"].kind == "added"
    assert (found["empty"].kind, found["empty"].node) == ("type", "file")


@pytest.mark.parametrize(
    "path",
    [
        "Makefile", "src/__pycache__/app.cpython-311.pyc", "src/app.pyo", "lib/_speed.so", "sub/makefile",
        ".github/workflows/ci.yml", ".gitlab-ci.yml", "package.json", ".vscode/tasks.json",
        ".idea/workspace.xml", ".envrc", "x/evil.pth", "sitecustomize.py", "tests/conftest.py", "setup.py",
        "pyproject.toml", ".pre-commit-config.yaml", ".npmrc", ".cargo/config.toml", ".bashrc", "gradlew",
        "gradle/wrapper/gradle-wrapper.jar", ".bazelrc", ".mcp.json", ".claude/settings.json",
        ".Claude/settings.json", "MAKEFILE", "GNUmakefile", ".claude /settings.json", "Conftest.py",
        ".git/hooks/pre-commit", ".GIT/config", ".git/config.worktree", "sub/.git", ".git./hooks/x",
        "git~1/config", ".git/modules/m/hooks/post-checkout", ".git/objects/info/alternates",
        ".git/info/attributes", ".gitattributes", ".gitmodules", ".husky/pre-commit", "webpack.config.js",
        "ｓetup.py", ".usermode/policy.toml", "Makefile:stream", ".git::$INDEX_ALLOCATION/config",
        "lib/x.so.1.2",
        ".config/fish/config.fish", ".ssh/config", ".psqlrc", ".eslintrc.cjs", "karma.conf.js", ".env.local",
        "vitest.workspace.ts", "package-lock.json", "requirements-dev.txt", "action.yml", "GEMINI.md",
        ".local/share/applications/x.desktop", "run.bat", "deploy.ps1", "x.service", "infra/main.tf",
        "uv.lock",
        "Package.swift", ".gdbinit", ".flake8", "dist/a.whl", "compose.override.yaml", ".roo/rules.md",
    ],
)  # fmt: skip
def test_a_file_that_runs_on_the_host_later_is_set_apart(session: Session, path: str) -> None:
    fill(session.copy, {path: "x"})
    review = changes(session.dir)
    assert [change.path for change in review.executes] == [path]
    assert review.ordinary == ()


@pytest.mark.parametrize(
    "path",
    [
        "makefiles",
        "src/setup_things.py",
        "docs/package.md",
        ".gitignore",
        "github/x",
        "configure.md",
        "a.sort",
        "requirements/readme.md",
        "environment.py",
        "src/config.js",
        "services.py",
        "a.sox",
    ],
)
def test_an_ordinary_file_is_ordinary(session: Session, path: str) -> None:
    fill(session.copy, {path: "x"})
    assert [change.path for change in changes(session.dir).ordinary] == [path]


def test_a_file_that_becomes_executable_is_set_apart(session: Session) -> None:
    (session.copy / "README").chmod(0o755)
    fill(session.copy, {"script": "#!/bin/sh\n"})
    (session.copy / "script").chmod(0o755)
    (session.copy / "run").write_text("#!/bin/sh\necho changed, was executable before\n")
    review = changes(session.dir)
    assert {change.path: change.executes for change in review.executes} == {
        "README": "newly executable",
        "script": "newly executable",
    }
    assert [change.path for change in review.ordinary] == ["run"]


def test_a_directory_renamed_into_a_protected_place_is_caught(session: Session) -> None:
    fill(session.copy, {"harmless/settings.json": "{}", "harmless/hooks/h": "x"})
    (session.copy / "harmless").rename(session.copy / ".claude")
    assert {change.path for change in changes(session.dir).executes} == {
        ".claude/settings.json",
        ".claude/hooks/h",
    }


def test_parents_that_are_links_or_were_renamed_lead_to_no_protected_place(
    source: Path, begin: Begin
) -> None:  # C12
    fill(source, {"tools/x": "x", ".git/HEAD": "ref"})
    (source / "mine").symlink_to(".git")
    session = begin()
    tree = session.copy
    # A link to a protected place, written through inside; a protected place that is a link; one on the way.
    (tree / "hooks").symlink_to(".git/hooks")
    fill(tree, {".git/hooks/pre-commit": "x", "mine/config": "x", "plain/tasks.json": "{}"})
    (tree / ".vscode").symlink_to("plain")
    (tree / "tools").rename(tree / ".HuSKY")
    found = {change.path: change for change in changes(session.dir).changes}
    assert {path for path, change in found.items() if change.section == "executes"} == {
        ".git/hooks/pre-commit", ".git/config", ".HuSKY/x",
    }  # fmt: skip
    assert found["hooks"].blocked
    assert found["hooks"].target == ".git/hooks"
    assert found[".vscode"].blocked
    assert found["plain/tasks.json"].section == "ordinary"
    apply(session.dir)
    assert not (source / ".git" / "config").exists()
    assert not (source / ".vscode").exists()
    assert not (source / ".HuSKY").exists()


def test_a_bare_repository_is_set_apart_whatever_its_name(session: Session) -> None:
    fill(
        session.copy,
        {"lib/HEAD": "ref: x", "lib/objects/a": "", "lib/refs/b": "", "lib/config": "[core]\nfsmonitor=x"},
    )
    assert {change.path for change in changes(session.dir).executes} == {
        "lib/HEAD", "lib/objects/a", "lib/refs/b", "lib/config",
    }  # fmt: skip


def test_commits_stand_in_a_section_of_their_own(source: Path, begin: Begin) -> None:
    fill(source, {".git/HEAD": "ref: refs/heads/main\n", ".git/config": "[core]\n"})
    session = begin()
    fill(session.copy, {".git/objects/ab/cd": "x", ".git/refs/heads/main": "abc\n"})
    review = changes(session.dir)
    assert [change.path for change in review.git] == [".git/objects/ab/cd", ".git/refs/heads/main"]
    assert review.ordinary == review.executes == ()


def test_a_git_configuration_that_lost_its_credentials_is_not_carried_back(
    source: Path, begin: Begin
) -> None:
    fill(source, {".git/config": "url = https://me:tok3n@example.org/\n"})
    session = begin()
    assert changes(session.dir).changes == ()
    (session.copy / ".git/config").write_text("[core]\n\tfsmonitor = touch /canary\n")
    [change] = changes(session.dir).blocked
    assert change.blocked == "credentials were left out of its copy: make this change by hand"


def test_what_is_no_plain_file_does_not_cross(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    (session.copy / "out").symlink_to("/etc/passwd")
    (session.copy / "README").unlink()
    (session.copy / "README").symlink_to("src/app.py")
    (session.copy / "link").unlink()
    (session.copy / "link").symlink_to("/etc/shadow")
    os.mkfifo(session.copy / "pipe")
    fill(session.copy, {"suid": "x", "sticky": "x"})
    (session.copy / "suid").chmod(0o4755)
    (session.copy / "sticky").chmod(0o1644)
    with socket.socket(socket.AF_UNIX) as listener:
        monkeypatch.chdir(session.copy)
        listener.bind("sock")
    if AS_ROOT:
        os.mknod(session.copy / "sda", stat.S_IFBLK | 0o666, os.makedev(8, 0))
    review = changes(session.dir)
    found = {change.path: change.blocked for change in review.blocked}
    assert found == {
        "README": "a symlink", "link": "a symlink", "out": "a symlink", "pipe": "a FIFO", "sock": "a socket",
        "sticky": "setuid, setgid or sticky bit", "suid": "setuid, setgid or sticky bit",
    } | ({"sda": "a device"} if AS_ROOT else {})  # fmt: skip
    assert review.ordinary == ()


@pytest.mark.parametrize(
    ("name", "why"),
    [
        (b"new\nline", "control or invisible"), (b"esc\x1b[2J", "control or invisible"),
        (b"\xff\xfe", "not UTF-8"), ("txt.\u202eexe".encode(), "control or invisible"),
        ("zero\u200bwidth".encode(), "control or invisible"),
        ("line\u2028sep".encode(), "control or invisible"),
    ],
)  # fmt: skip
def test_a_name_that_lies_about_itself_does_not_cross(session: Session, name: bytes, why: str) -> None:
    Path(os.fsdecode(os.fsencode(session.copy) + b"/" + name)).write_text("x")
    [change] = changes(session.dir).changes
    assert os.fsencode(change.path) == name
    assert change.blocked is not None
    assert why in change.blocked


def test_nesting_past_the_bound_is_reported_and_not_entered(session: Session) -> None:
    here = os.open(session.copy, os.O_RDONLY)
    for _ in range(1500):  # longer than any path the system takes at once
        os.mkdir("dddd", dir_fd=here)
        below = os.open("dddd", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    [change] = changes(session.dir).changes
    assert change.blocked == "too deep or not readable"


def test_a_file_that_claims_terabytes_does_not_cross(session: Session) -> None:
    with (session.copy / "giant").open("wb") as file:
        file.truncate(10 << 40)
    [change] = changes(session.dir).changes
    assert change.blocked is not None
    assert change.blocked.startswith("claims 10,995,116,277,760 bytes and holds 0")


def test_a_directory_replaced_by_a_symlink_does_not_take_its_files_along(session: Session) -> None:
    (session.copy / "src").rename(session.copy / "elsewhere")
    (session.copy / "src").symlink_to("elsewhere")
    review = changes(session.dir)
    assert {c.path for c in review.blocked} == {"src", "src/app.py", "src/util", "src/util/text.py"}
    assert {c.path for c in review.ordinary} == {"elsewhere/app.py", "elsewhere/util/text.py"}


def test_the_users_own_later_changes_are_conflicts(source: Path, session: Session) -> None:
    fill(
        session.copy,
        {"README": "theirs", "src/app.py": "theirs", "data.bin": "theirs", "made": "theirs", "same": "s"},
    )
    (session.copy / "run").unlink()
    fill(source, {"README": "mine", "made": "mine", "same": "s", "run": "mine"})
    (source / "src/app.py").unlink()
    (source / "data.bin").unlink()
    (source / "data.bin").mkdir()
    assert {path: change.conflict for path, change in by_path(session).items()} == {
        "README": "was changed in your directory since the copy",
        "run": "was changed in your directory since the copy",
        "src/app.py": "is no longer in your directory",
        "data.bin": "is a directory in your directory now",
        "made": "is in your directory and was not part of the copy",
    }


def test_a_change_the_user_made_as_well_is_no_change(source: Path, session: Session) -> None:
    fill(session.copy, {"README": "both"})
    fill(source, {"README": "both"})
    (session.copy / "data.bin").unlink()
    (source / "data.bin").unlink()
    assert changes(session.dir).changes == ()


def test_an_excluded_file_of_the_user_is_not_overwritten_by_a_new_one(source: Path, begin: Begin) -> None:
    fill(source, {".env": "SECRET=1"})
    session = begin()
    fill(session.copy, {".env": "EVIL=1"})
    [change] = changes(session.dir).changes
    assert change.conflict == "is in your directory and was not part of the copy"


def test_a_symlink_on_the_way_in_the_users_own_directory_is_not_followed(
    source: Path, session: Session
) -> None:
    (source / "src").rename(source / "moved")
    (source / "src").symlink_to("moved")
    fill(session.copy, {"src/app.py": "changed"})
    assert by_path(session)["src/app.py"].blocked == "a directory on its path is a symlink in your directory"


def test_thousands_of_new_files_are_all_listed(session: Session) -> None:
    fill(session.copy, {f"many/{n % 40}/{n}": "x" for n in range(1500)})
    assert len(changes(session.dir).changes) == 1500
