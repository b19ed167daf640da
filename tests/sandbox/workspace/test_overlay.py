"""An overlay over the user's directory: what shows, what is hidden, and what comes out of its upper layer."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from workspace_session import GID, UID, fill

from policies.schema import Limits
from sandbox.errors import SandboxRefused
from sandbox.workspace import apply, changes, diff_text, discard, mounted_sessions, prepare, release
from sandbox.workspace.copyin import CopyReport
from sandbox.workspace.overlay import Under, lay_again, lay_over
from sandbox.workspace.quota import Kind, exact_unavailable, mount_again, storage_of

pytestmark = pytest.mark.skipif(bool(exact_unavailable()), reason="an overlay is mounted by root, on Linux")

LIMITS = Limits(workspace_mb=16, workspace_inodes=400)
KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nx\n"


@dataclass(frozen=True)
class Overlay:
    dir: Path
    source: Path
    tree: Path
    """What the session sees."""
    report: CopyReport

    def sh(self, script: str) -> None:
        """As the session's user, with the tools that a session has."""
        subprocess.run(
            ["bash", "-euc", script], cwd=self.tree, check=True,
            user=UID, group=GID, extra_groups=[], umask=0o022,
        )  # fmt: skip

    def changed(self) -> dict[str, tuple[str, bool]]:
        """Kind by path, and whether it is left to a decision of the user."""
        found = changes(self.dir).changes
        return {change.path: (change.kind, bool(change.blocked or change.conflict)) for change in found}


def owned(top: Path) -> None:
    for path in [top, *top.rglob("*")]:
        os.chown(path, UID, GID, follow_symlinks=False)


@pytest.fixture
def over(tmp_path: Path, source: Path) -> Iterator[Callable[..., Overlay]]:
    for path in (tmp_path, *tmp_path.parents[:2]):
        path.chmod(0o755)  # the session's user has to come here without a container
    made: list[Path] = []

    def start(*, exclude: tuple[str, ...] = (), kind: Kind | None = None) -> Overlay:
        owned(source)
        session_dir = tmp_path / "store" / f"session-{len(made)}"
        session_dir.mkdir(parents=True)
        made.append(session_dir)
        storage = prepare(session_dir, LIMITS, uid=UID, gid=GID, kind=kind)
        report = lay_over(Under(source, UID, GID, exclude), session_dir)
        (session_dir / "workspace").chmod(0o755)
        return Overlay(session_dir, source, storage.path, report)

    yield start
    for session_dir in made:
        discard(session_dir)


def test_the_directory_is_seen_whole_and_what_is_written_stays_out_of_it(over):
    overlay = over()
    before = {path: path.stat().st_mtime_ns for path in overlay.source.rglob("*") if path.is_file()}
    overlay.sh("test -x run; cat README src/app.py; echo new > new; echo more >> README; rm data.bin")
    assert (overlay.source / "README").read_text() == "read me\n"
    assert (overlay.source / "data.bin").exists()
    assert not (overlay.source / "new").exists()
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert overlay.report.excluded == ()
    assert overlay.report.files == len(list(overlay.source.rglob("*")))
    assert overlay.changed() == {
        "new": ("added", False),
        "README": ("modified", False),
        "data.bin": ("deleted", False),
    }
    assert "+more" in diff_text(overlay.dir)


def test_an_untouched_overlay_has_no_changes_and_rewriting_the_same_is_none(over):
    overlay = over()
    assert overlay.changed() == {}
    overlay.sh(
        "touch README run src; cat README > /dev/null; cp -p README x; mv x README; chmod 700 src; ls -R"
    )
    overlay.sh("cat data.bin > y; cat y > data.bin; rm y; ln -sfn README link")
    assert overlay.changed() == {}


def test_what_a_copy_leaves_out_does_not_show(over, source: Path):
    fill(
        source,
        {
            ".env": "S=canary", "src/.ENV": "S=canary", "deep/er/server.key": KEY,
            "notes.txt": f"\n\n{KEY}", "c.pem": KEY,
            ".aws/credentials": "S=canary", "build/out.o": "x",
            ".git/config": '[remote "o"]\n url = https://me:canary@host.test/x\n',
        },
    )  # fmt: skip
    os.mkfifo(source / "fifo")
    os.mknod(source / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    (source / "closed").mkdir(mode=0o700)
    (source / "closed" / "inside").write_text("canary")
    overlay = over(exclude=("build/",))
    os.chown(overlay.source / "closed", 0, 0)
    hidden = {path for path, _ in overlay.report.excluded}
    assert hidden == {
        ".env", "src/.ENV", "deep/er/server.key", "notes.txt", "c.pem", ".aws", "build", "fifo", "null",
    }  # fmt: skip
    shown = {str(path.relative_to(overlay.tree)) for path in overlay.tree.rglob("*")}
    assert not {path for path in shown if any(path == gone or path.startswith(f"{gone}/") for gone in hidden)}
    assert "canary" not in (overlay.tree / ".git/config").read_text()
    assert overlay.report.rewritten == (".git/config",)
    assert overlay.changed() == {}
    for path in (".env", ".aws/credentials", "notes.txt"):
        assert not (overlay.tree / path).exists()


def test_nothing_the_session_does_brings_a_hidden_file_back(over, source: Path):
    fill(source, {"config/.env": "S=canary", "config/a.txt": "a", ".env": "S=canary"})
    overlay = over()
    overlay.sh(
        "mv config moved || true; test -d moved || cp -r config moved; rm -rf config; mkdir config; ls config"
    )
    overlay.sh(
        "echo mine > .env; rm .env; touch .env; mv .env z; rm z; ln -s a.txt config/.env; rm config/.env"
    )
    overlay.sh("! mknod w c 0 0 2>/dev/null; ! setfattr -n trusted.overlay.opaque -v n . 2>/dev/null")
    seen = [path.read_bytes() for path in overlay.tree.rglob("*") if path.is_file() and not path.is_symlink()]
    assert b"S=canary" not in seen
    # Their own file of that name is in the user's way, and says so.
    overlay.sh("echo mine > .env")
    assert overlay.changed()[".env"] == ("added", True)
    apply(overlay.dir)
    assert (source / ".env").read_text() == "S=canary"
    assert (source / "config" / ".env").read_text() == "S=canary"


def test_replaced_and_renamed_directories_are_told_file_by_file(over, source: Path):
    fill(source, {"pkg/one.txt": "1", "pkg/sub/two.txt": "2", "old/x.txt": "x", "flat": "f"})
    overlay = over()
    overlay.sh("rm -rf pkg; mkdir pkg; echo 1b > pkg/one.txt; echo n > pkg/three.txt")
    overlay.sh(
        "cp -r old fresh; rm -rf old; rm flat; mkdir flat; echo in > flat/in.txt; rm -r empty; echo e > empty"
    )
    assert overlay.changed() == {
        "pkg/one.txt": ("modified", False), "pkg/three.txt": ("added", False), "pkg/sub": ("deleted", False),
        "pkg/sub/two.txt": ("deleted", False), "old": ("deleted", False), "old/x.txt": ("deleted", False),
        "fresh/x.txt": ("added", False), "flat": ("type", False), "flat/in.txt": ("added", False),
        "empty": ("type", False),
    }  # fmt: skip
    report = apply(overlay.dir)
    assert report.skipped == ()
    want = {str(path.relative_to(overlay.tree)): path for path in overlay.tree.rglob("*")}
    have = {str(path.relative_to(source)): path for path in source.rglob("*")}
    assert want.keys() == have.keys()
    assert all(want[name].read_bytes() == have[name].read_bytes() for name in want if want[name].is_file())
    # Applied is applied: nothing is left, and nothing comes a second time.
    assert overlay.changed() == {}
    assert apply(overlay.dir).applied == ()


def test_a_file_the_user_changed_meanwhile_is_a_conflict_on_both_sides_of_the_copy_up(over, source: Path):
    overlay = over()
    overlay.sh("echo theirs >> README")
    (source / "README").write_text("mine\n")
    (source / "src/app.py").write_text("mine too\n")
    overlay.sh("echo theirs >> src/app.py; rm src/util/text.py")
    (source / "src/util/text.py").write_text("x = 2\n")
    (source / "data.bin").write_text("only mine")
    assert overlay.changed() == {
        "README": ("modified", True),
        "src/app.py": ("modified", True),
        "src/util/text.py": ("deleted", True),
    }
    assert {path for path, _ in apply(overlay.dir).skipped} == {"README", "src/app.py", "src/util/text.py"}
    assert (source / "README").read_text() == "mine\n"


def test_what_does_not_cross_from_a_copy_does_not_from_an_overlay(over, source: Path):
    overlay = over()
    overlay.sh("ln -s /etc/passwd out; mkfifo pipe; cp run s; chmod 4755 s; rm -r src; ln -s /etc src")
    blocked = {change.path: change.blocked for change in changes(overlay.dir).changes}
    assert all(blocked[path] for path in ("out", "pipe", "s", "src"))
    apply(overlay.dir, force=True, executable=True)
    assert (source / "src").is_dir()
    assert not os.path.lexists(source / "out")


def test_a_part_of_a_repository_by_another_name_is_set_apart(over, source: Path):
    fill(
        source, {"nested/HEAD": "ref", "nested/objects/x": "", "nested/refs/y": "", "nested/description": "d"}
    )
    overlay = over()
    overlay.sh("printf '[core]\\nfsmonitor=x\\n' > nested/settings; mkdir -p .GitHub/Workflows")
    overlay.sh("echo x > .GitHub/Workflows/a.yml")
    reasons = {change.path: change.executes for change in changes(overlay.dir).changes}
    assert reasons["nested/settings"]
    assert reasons[".GitHub/Workflows/a.yml"]


def test_the_table_of_mounts_names_no_path_of_the_host(over):
    overlay = over()
    lines = [
        line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(overlay.tree) in line
    ]
    [line] = lines
    shown = line.replace(str(overlay.tree), "")
    assert str(overlay.dir) not in shown
    assert str(overlay.source) not in shown
    assert "nosuid,nodev" in shown


def test_the_upper_layer_is_full_at_the_limit_and_the_directory_may_be_larger(over, source: Path):
    (source / "large").write_bytes(bytes(30 << 20))
    fill(source, {f"many/{number}": "" for number in range(600)})
    overlay = over()
    assert overlay.report.files > LIMITS.workspace_inodes
    overlay.sh(
        "! head -c 40M /dev/zero > fill 2>/dev/null; test $(stat -c %s fill) -le $((25 << 20)); rm fill"
    )
    overlay.sh("! echo x >> large 2>/dev/null")  # it would have to be copied whole
    overlay.sh(
        "i=0; while : > f$i && [ $i -lt 1000 ]; do i=$((i+1)); done 2>/dev/null || true; test $i -lt 401"
    )
    assert (source / "large").stat().st_size == 30 << 20


def test_it_is_found_and_released_as_another_storage_is(over, tmp_path: Path):
    overlay = over()
    overlay.sh("echo kept > kept")
    assert mounted_sessions(tmp_path / "store") == [overlay.dir]
    release(overlay.dir)
    release(overlay.dir)
    assert mounted_sessions(tmp_path / "store") == []
    assert overlay.changed() == {"kept": ("added", False)}
    assert mounted_sessions(tmp_path / "store") == []
    discard(overlay.dir)
    assert [path.name for path in overlay.dir.iterdir()] == ["workspace.lock"]
    assert (overlay.source / "README").exists()


def test_without_an_image_of_its_own_the_upper_layer_is_what_is_watched(over, tmp_path: Path):
    overlay = over(kind="watched directory")
    overlay.sh("echo new > new; rm README")
    storage = storage_of(overlay.dir)
    assert not storage.exact
    assert [path.name for path in storage.grows.iterdir() if path.is_file()] == ["new"]
    assert mounted_sessions(tmp_path / "store") == [overlay.dir]
    release(overlay.dir)
    assert overlay.changed() == {"new": ("added", False), "README": ("deleted", False)}


def test_a_directory_of_another_user_is_refused(over, source: Path, tmp_path: Path):
    over()
    os.chown(source, UID + 1, GID)
    session_dir = tmp_path / "store" / "refused"
    session_dir.mkdir()
    prepare(session_dir, LIMITS, uid=UID, gid=GID)
    try:
        with pytest.raises(SandboxRefused, match=f"belongs to user {UID + 1}"):
            lay_over(Under(source, UID, GID), session_dir)
    finally:
        discard(session_dir)


def test_a_survey_that_meets_a_moving_directory_shows_nothing_it_did_not_judge(over, source: Path):
    """A directory on the way to a hidden file becomes a link before the whiteout is made."""
    fill(source, {"swap/.env": "S=canary"})
    owned(source)
    shutil.move(source / "swap", source / "aside")
    (source / "swap").symlink_to("/etc")
    overlay = over()
    assert overlay.report.excluded == (("aside/.env", "environment file"),)
    assert not (overlay.tree / "aside" / ".env").exists()
    assert (overlay.tree / "swap").is_symlink()


def again(overlay: Overlay, *, exclude: tuple[str, ...] = ()) -> None:
    """As a session is opened anew whose container went away, mounts left behind or not."""
    mount_again(overlay.dir)
    (overlay.dir / "workspace").chmod(0o755)
    lay_again(Under(overlay.source, UID, GID, exclude), overlay.dir)


@pytest.mark.parametrize("left_mounted", [True, False])
def test_laid_again_it_is_as_the_session_left_it(over, left_mounted):
    overlay = over()
    overlay.sh("echo new > new; rm README; mkdir -p src/sub; mv data.bin src/sub/; rm -rf src/app.py")
    before = overlay.changed()
    if not left_mounted:
        release(overlay.dir)
    again(overlay)
    overlay.sh("cat new; test ! -e README; test -e src/sub/data.bin; test ! -e src/app.py")
    assert overlay.changed() == before


def test_a_directory_that_was_exchanged_meanwhile_is_the_one_that_is_seen(over, tmp_path):
    overlay = over()
    overlay.source.rename(tmp_path / "elsewhere")
    overlay.source.mkdir()
    (overlay.source / "other").write_text("other\n")
    owned(overlay.source)
    again(overlay)
    overlay.sh("test -e other; test ! -e README")


@pytest.mark.parametrize("path", [".env", "src/.env", "fresh/id_rsa", ".aws/credentials"])
def test_what_must_not_be_seen_and_came_later_stands_against_laying_it_again(over, path):  # C18
    overlay = over()
    overlay.sh("echo x > src/new")
    release(overlay.dir)
    (overlay.source / path).parent.mkdir(exist_ok=True)
    (overlay.source / path).write_text(KEY)
    owned(overlay.source)
    with pytest.raises(SandboxRefused, match=path.split("/")[0]):
        again(overlay)
    (overlay.source / path).unlink()
    if path.startswith(".aws"):
        (overlay.source / ".aws").rmdir()
    again(overlay)


def test_what_the_session_put_over_a_secret_covers_it(over):
    (overlay := over()).sh("echo mine > .env; rm -rf src; mkdir src; echo x > src/x")
    release(overlay.dir)
    (overlay.source / ".env").write_text("theirs\n")
    (overlay.source / "src" / ".env").write_text("theirs\n")
    owned(overlay.source)
    again(overlay)
    overlay.sh('test "$(cat .env)" = mine; test ! -e src/.env')
