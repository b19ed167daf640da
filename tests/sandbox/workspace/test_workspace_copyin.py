"""What goes into a copy, what stays out, and that the report says so."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from workspace_session import AS_ROOT, GID, UID, Session, fill

from policies.schema import Limits
from sandbox.errors import SandboxRefused
from sandbox.workspace import manifest
from sandbox.workspace.copyin import copy_in
from sandbox.workspace.quota import prepare

Begin = Callable[..., Session]
KEY = b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n"
CERTIFICATE = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


def test_the_copy_has_the_same_content_modes_and_times(source: Path, session: Session) -> None:
    for path in ("README", "src/app.py", "src/util/text.py", "data.bin", "run", "src"):
        theirs, ours = (session.copy / path).stat(), (source / path).stat()
        assert theirs.st_mtime_ns == ours.st_mtime_ns
        assert (theirs.st_uid, theirs.st_gid) == (UID, GID)
        if stat.S_ISREG(ours.st_mode):
            assert (session.copy / path).read_bytes() == (source / path).read_bytes()
            assert theirs.st_mode == ours.st_mode
    assert (session.copy / "empty").is_dir()
    assert session.report.files == 9
    assert session.report.excluded == ()


def test_a_symlink_is_copied_as_a_symlink_wherever_it_points(source: Path, begin: Begin) -> None:
    (source / "out").symlink_to("/etc/passwd")
    (source / "dangling").symlink_to("nowhere")
    session = begin()
    assert (session.copy / "out").readlink() == Path("/etc/passwd")
    assert (session.copy / "dangling").is_symlink()
    assert (session.copy / "out").lstat().st_uid == UID


@pytest.mark.parametrize(
    "path",
    [
        ".env", ".env.local", "app/.ENV.Production", ".envrc", "id_rsa", "keys/id_ed25519", "server.key",
        "store.p12", "a.pfx", "b.jks", ".netrc", ".npmrc", ".pypirc", ".git-credentials",
        ".docker/config.json", "credentials.json", "service-account-prod.json", "service_account.json",
        ".cargo/credentials.toml", ".m2/settings.xml", "terraform.tfstate", ".config/pip/pip.conf",
    ],
)  # fmt: skip
def test_a_credential_file_stays_out_and_is_reported(source: Path, begin: Begin, path: str) -> None:
    fill(source, {path: "secret"})
    session = begin()
    assert not (session.copy / path).exists()
    assert path in dict(session.report.excluded)


@pytest.mark.parametrize("path", [".aws", ".ssh", ".kube", ".gnupg", ".config/gcloud", "deep/.ssh"])
def test_a_credential_directory_stays_out_whole(source: Path, begin: Begin, path: str) -> None:
    fill(source, {f"{path}/anything": "secret"})
    session = begin()
    assert not (session.copy / path).exists()
    assert dict(session.report.excluded)[path] == "credential directory"


@pytest.mark.parametrize(
    "path",
    [".env.example", ".env.sample", ".env.template", "environment.py", "monkey.py", "keys.py", ".gitignore"],
)
def test_a_harmless_neighbour_of_a_credential_file_goes_in(source: Path, begin: Begin, path: str) -> None:
    fill(source, {path: "content"})
    assert (begin().copy / path).read_text() == "content"


def test_a_private_key_stays_out_whatever_its_name(source: Path, begin: Begin) -> None:
    fill(source, {"deploy": KEY, "ca.pem": CERTIFICATE, "both.pem": CERTIFICATE + KEY, "odd.pem": b"binary"})
    session = begin()
    assert dict(session.report.excluded) == dict.fromkeys(("deploy", "both.pem", "odd.pem"), "private key")
    assert (session.copy / "ca.pem").read_bytes() == CERTIFICATE


def test_the_policy_leaves_out_more_and_takes_in_what_the_built_in_list_would_not(
    source: Path, begin: Begin
) -> None:
    fill(
        source,
        {
            ".env": "A=1",
            "build/out.o": "o",
            "build/keep.txt": "k",
            "a.log": "l",
            "sub/b.log": "l",
            ".aws/config": "c",
        },
    )
    session = begin(exclude=("*.log", "/build/*", "!/build/keep.txt"), include=(".env", ".aws/"))
    assert (session.copy / ".env").read_text() == "A=1"
    assert (session.copy / ".aws/config").exists()
    assert (session.copy / "build/keep.txt").exists()
    left_out = {path for path, reason in session.report.excluded if reason == "excluded by the policy"}
    assert left_out == {"a.log", "sub/b.log", "build/out.o"}


def test_exclude_beats_include(source: Path, begin: Begin) -> None:
    fill(source, {".env": "A=1"})
    assert not (begin(exclude=(".env",), include=(".env",)).copy / ".env").exists()


def test_credentials_are_taken_out_of_git_configuration(source: Path, begin: Begin) -> None:
    config = (
        '[remote "origin"]\n\turl = https://user:tok3n@example.org/a.git\n'
        '[remote "b"]\n\turl = ssh://git@example.org/b.git\n\tpushurl = ssh://me:tok3n@example.org/b\n'
        '[http "https://example.org/"] extraheader = AUTHORIZATION: \\\nbasic tok3n\n'
        "[sendemail]\n\tsmtpPass = tok3n\n[core]\n\tbare = false\n"
    )
    fill(source, {".git/config": config, ".git/modules/m/config": "url = https://tok3n@example.org/m\n"})
    session = begin()
    copied = (session.copy / ".git/config").read_text()
    assert "tok3n" not in copied
    assert "https://example.org/a.git" in copied
    assert "ssh://git@example.org/b.git" in copied
    assert "bare = false" in copied
    assert "tok3n" not in (session.copy / ".git/modules/m/config").read_text()
    assert session.report.rewritten == (".git/config", ".git/modules/m/config")


def test_what_is_no_file_stays_out(source: Path, begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(source / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        monkeypatch.chdir(source)  # the path of a socket is short
        listener.bind("sock")
    if AS_ROOT:
        os.mknod(source / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    expected = {"pipe": "FIFO", "sock": "socket"} | ({"null": "device"} if AS_ROOT else {})
    assert dict(begin().report.excluded) == expected


def test_what_the_owner_of_the_directory_may_not_read_stays_out(source: Path, begin: Begin) -> None:
    fill(source, {"closed": "x", "shut/in": "x"})
    (source / "closed").chmod(0o000)
    (source / "shut").chmod(0o000)
    session = begin()
    assert sorted(path for path, _ in session.report.excluded) == ["closed", "shut"]
    assert not (session.copy / "closed").exists()


@pytest.mark.skipif(not AS_ROOT, reason="only root can make another user's file")
def test_another_users_private_file_stays_out(source: Path, begin: Begin) -> None:
    fill(source, {"theirs": "x", "shared": "x"})
    for path in (source, *source.rglob("*")):
        os.chown(path, 4000, 4000, follow_symlinks=False)
    os.chown(source / "theirs", 0, 0)
    os.chown(source / "shared", 0, 4000)
    (source / "theirs").chmod(0o600)
    (source / "shared").chmod(0o640)
    session = begin()
    assert dict(session.report.excluded) == {"theirs": "not readable by the owner of the directory"}


def test_setuid_bits_do_not_go_in_and_the_copy_is_always_writable(source: Path, begin: Begin) -> None:
    (source / "run").chmod(0o4755)
    (source / "README").chmod(0o444)
    session = begin()
    assert stat.S_IMODE((session.copy / "run").stat().st_mode) == 0o755
    assert stat.S_IMODE((session.copy / "README").stat().st_mode) == 0o644


def test_hard_links_become_files_of_their_own(source: Path, begin: Begin) -> None:
    os.link(source / "README", source / "README2")
    session = begin()
    assert (session.copy / "README2").stat().st_nlink == 1


def test_any_name_a_file_system_allows_survives(source: Path, begin: Begin) -> None:
    names = [b"new\nline", b"\xff\xfe", b"esc\x1b[2J", "ü".encode(), b" ", b"\\", b"-rf"]
    for name in names:
        Path(os.fsdecode(os.path.join(os.fsencode(source), name))).write_text("x")  # noqa: PTH118
    session = begin()
    assert {os.fsencode(path) for path in manifest.load(session.dir).entries} >= set(names)


def test_a_sparse_giant_goes_in_as_what_it_holds(source: Path, begin: Begin) -> None:
    with (source / "giant").open("wb") as file:
        file.truncate(10 << 40)
        file.seek(1 << 40)
        file.write(b"here")
    session = begin()
    status = (session.copy / "giant").stat()
    assert status.st_size == 10 << 40
    assert status.st_blocks * 512 < 1 << 20
    with (session.copy / "giant").open("rb") as file:
        file.seek(1 << 40)
        assert file.read(4) == b"here"


def test_a_directory_larger_than_the_policy_allows_is_refused_with_sizes(source: Path, begin: Begin) -> None:
    fill(source, {f"node_modules/{n}": os.urandom(1 << 20) for n in range(6)})
    with pytest.raises(
        SandboxRefused, match=r"holds 6 MB .* allows 4 MB .*'node_modules' 6 MB.*exclude.*workspace_mb"
    ):
        begin(limits=Limits(workspace_mb=4))
    assert (begin(limits=Limits(workspace_mb=4), exclude=("node_modules/",)).copy / "README").exists()


def test_too_many_files_are_refused(source: Path, begin: Begin) -> None:
    fill(source, {f"many/{n}": "" for n in range(700)})
    with pytest.raises(SandboxRefused, match=r"in 7\d\d files"):
        begin(limits=Limits(workspace_inodes=500))


def test_the_sessions_own_store_is_not_copied_into_itself(source: Path) -> None:
    session_dir = source / "state" / "s1"
    session_dir.mkdir(parents=True)
    fill(source / "state", {"other/journal": "x"})
    limits = Limits()
    storage = prepare(session_dir, limits, uid=UID, gid=GID, kind="watched directory")
    report = copy_in(source, session_dir, limits=limits, uid=UID, gid=GID)
    assert dict(report.excluded) == {"state": "holds usermode's own state"}
    assert not (storage.path / "state").exists()


def test_progress_is_told_and_can_stop_the_copy(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sandbox.workspace.copyin._SHOW_S", -1)
    session_dir = tmp_path / "s"
    session_dir.mkdir()
    prepare(session_dir, Limits(), uid=UID, gid=GID, kind="watched directory")

    def stop(files: int, size: int) -> None:
        assert files > 0
        raise InterruptedError

    with pytest.raises(InterruptedError):
        copy_in(source, session_dir, limits=Limits(), uid=UID, gid=GID, progress=stop)


def test_a_missing_source_is_an_error(tmp_path: Path) -> None:
    session_dir = tmp_path / "s"
    session_dir.mkdir()
    prepare(session_dir, Limits(), uid=UID, gid=GID, kind="watched directory")
    with pytest.raises(FileNotFoundError):
        copy_in(tmp_path / "nowhere", session_dir, limits=Limits(), uid=UID, gid=GID)
