"""Workspaces that are no copy: real sessions over a directory, and on it (overlay and bind)."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from cli_user import CliUser

from policies import load
from sandbox import Command, Sandbox, SandboxSpec, open_sandbox
from sandbox.cache import cache_dir
from sandbox.errors import SandboxRefused
from sandbox.workspace import changes, discard
from sandbox.workspace.quota import exact_unavailable

pytestmark = pytest.mark.docker

OWNER = 1234 if os.geteuid() == 0 else os.geteuid()
MODES = ["copy", "overlay", "bind"] if exact_unavailable() is None else ["copy", "bind"]
"""An overlay is mounted by root, on Linux; elsewhere it is refused, which has a test of its own."""
CANARY = "usermode-canary-5f2c"

Open = Callable[..., AbstractAsyncContextManager[Sandbox]]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    top = tmp_path / "project"
    for path, text in {
        "a.txt": "a\n", "src/b.py": "b\n", ".env": f"S={CANARY}", "deep/er/id_rsa": CANARY,
        "keys/k.key": CANARY,
        "odd": f"-----BEGIN RSA PRIVATE KEY-----\n{CANARY}",
    }.items():  # fmt: skip
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_text(text)
    own(top)
    return top


def own(top: Path) -> None:
    for path in [top, *top.rglob("*")]:
        os.chown(path, OWNER, OWNER, follow_symlinks=False)


@pytest.fixture
def open_on(tmp_path: Path) -> Open:
    def opener(workspace: Path, mode: str, **limits: int) -> AbstractAsyncContextManager[Sandbox]:
        strict = load("strict")
        policy = strict.model_copy(
            update={
                "limits": strict.limits.model_copy(update=limits),
                "workspace": strict.workspace.model_copy(update={"mode": mode}),
            }
        )
        return open_sandbox(SandboxSpec(policy=policy, workspace=workspace, state=tmp_path / "state"))

    return opener


@pytest.mark.parametrize("mode", MODES)
async def test_a_session_works_in_the_directory_and_owns_what_it_makes(mode, project, open_on, tmp_path):
    script = "cat a.txt src/b.py; echo x > new; echo x >> a.txt; mkdir d; rm src/b.py; stat -c %u . a.txt new"
    async with open_on(project, mode) as box:
        done = await box.run(Command(("bash", "-ec", script)))
    assert (done.exit_code, done.stderr) == (0, b"")
    assert len(set(done.stdout.split()[2:])) == 1
    direct = mode == "bind"
    assert (project / "new").exists() is direct
    assert (project / "src/b.py").exists() is not direct
    if direct:
        assert (project / "new").stat().st_uid == OWNER
    else:
        found = {(change.path, change.kind) for change in changes(tmp_path / "state").changes}
        assert found == {("new", "added"), ("a.txt", "modified"), ("d", "added"), ("src/b.py", "deleted")}
        discard(tmp_path / "state")


HUNT = """
import json, os
found = []
roots = ["/workspace", "/proc/1/root/workspace", "/proc/self/cwd"]
for line in open("/proc/self/mountinfo"):
    for word in line.replace(",", " ").replace("=", " ").replace(":", " ").split():
        if word.startswith("/"):
            roots.append(word)
names = [".env", "deep/er/id_rsa", "keys/k.key", "odd", "../upper/.env", "upper/.env", "diff/.env"]
for root in roots:
    for name in names:
        try: found += [root + "/" + name] if os.stat(root + "/" + name) else []
        except OSError: pass
for here, directories, files in os.walk("/workspace"):
    for name in files:
        try: text = open(os.path.join(here, name), errors="replace").read()
        except OSError: continue
        if "CANARY" in text: found.append(os.path.join(here, name))
print(json.dumps(found))
""".replace("CANARY", CANARY)


@pytest.mark.skipif("overlay" not in MODES, reason="an overlay is mounted by root, on Linux")
async def test_credentials_beneath_an_overlay_cannot_be_reached(project, open_on, tmp_path, runtime):  # C18
    tricks = (
        "rm -rf keys; mkdir keys; mv deep gone 2>/dev/null; cp -r . /tmp/all; touch .env; rm .env; "
        "mknod w c 0 0 2>/dev/null; setfattr -x trusted.overlay.opaque keys 2>/dev/null; "
        "mount -t overlay -o lowerdir=/workspace o /tmp 2>/dev/null; unshare -Urm true 2>/dev/null; true"
    )
    async with open_on(project, "overlay") as box:
        assert {path for path, _ in box.copy_report.excluded} == {
            ".env",
            "deep/er/id_rsa",
            "keys/k.key",
            "odd",
        }
        for before in ("true", tricks):
            await box.run(Command(("bash", "-c", before)))
            done = await box.run(Command(("python3", "-c", HUNT)))
            assert done.exit_code == 0, done.stderr
            assert json.loads(done.stdout) == []
        mounts = (await box.run(Command(("cat", "/proc/self/mountinfo")))).stdout.decode()
        assert str(tmp_path) not in mounts
        [line] = [line for line in mounts.splitlines() if " /workspace " in line]
        assert "nosuid,nodev" in line or runtime == "runsc"  # which does not tell them
    discard(tmp_path / "state")
    # The probe does find what is there: a session on the directory itself sees it, and is said to.
    async with open_on(project, "bind") as box:
        done = await box.run(Command(("python3", "-c", HUNT)))
        assert "/workspace/.env" in json.loads(done.stdout)


FILL = """
f = open("/workspace/fill", "wb", buffering=0)
n = 0
try:
    while True: n += f.write(bytes(1 << 20))
except OSError as e:
    print(e.errno, n)
"""


@pytest.mark.skipif("overlay" not in MODES, reason="an overlay is mounted by root, on Linux")
async def test_an_overlay_is_full_at_its_limits(project, open_on, tmp_path):  # B03, B04
    files = "i=0; while [ $i -lt 3000 ]; do : > /workspace/f$i || break; i=$((i+1)); done"
    async with open_on(project, "overlay", workspace_mb=16, workspace_inodes=1000) as box:
        done = await box.run(Command(("python3", "-c", FILL)))
        assert done.exit_code == 0, done.stderr
        code, written = map(int, done.stdout.split())
        assert code == errno.ENOSPC
        assert written <= 26 << 20
        await box.run(Command(("rm", "/workspace/fill")))
        done = await box.run(Command(("sh", "-c", files)))
        assert 500 < len(await box.list_dir("/workspace")) <= 1000
        assert b"No space" in done.stderr
        assert (await box.run(Command(("true",)))).exit_code == 0
    assert not (project / "fill").exists()
    assert not (project / "f0").exists()
    discard(tmp_path / "state")


SLOW_FILL = """
import time
f = open("/workspace/fill", "wb", buffering=0)
while True:
    f.write(bytes(1 << 20)); time.sleep(0.005)
"""


async def test_a_bound_directory_that_outgrows_its_limit_ends_what_runs(project, open_on):  # B03, B04
    files = "i=0; while :; do : > f$i; i=$((i+1)); done"
    async with open_on(project, "bind", workspace_mb=48, workspace_inodes=2000) as box:
        done = await box.run(Command(("python3", "-c", SLOW_FILL), timeout_s=60))
        assert done.disk_exceeded
        # It overshoots by what is written between two looks: a few looks' worth at this pace.
        assert 47 << 20 < (project / "fill").stat().st_size < 148 << 20
        # A last look may still find growth, of the moment before the end.
        freed = [await box.run(Command(("rm", "-f", "fill"))) for _ in range(3)]
        assert freed[-1].exit_code == 0
        done = await box.run(Command(("bash", "-c", files), timeout_s=60))
        assert done.disk_exceeded
        cleaned = [await box.run(Command(("find", ".", "-name", "f*", "-delete"))) for _ in range(3)]
        assert cleaned[-1].exit_code == 0


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "copy"])
async def test_what_is_no_project_is_not_used_in_place(mode, project, open_on, tmp_path, monkeypatch):
    link = tmp_path / "link"
    link.symlink_to(project)
    home = tmp_path / "home"
    (home / "project").mkdir(parents=True)
    own(home)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_dir().parent))  # init is found where it was made
    monkeypatch.setenv("HOME", str(home))
    for path in (home, link, project / ".." / "project", tmp_path / "missing"):
        with pytest.raises(SandboxRefused):
            async with open_on(path, mode):
                pass
        discard(tmp_path / "state")
    async with open_on(home / "project", mode) as box:
        assert (await box.run(Command(("touch", "ok")))).exit_code == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can own what is root's")
@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "copy"])
async def test_a_directory_of_roots_is_refused_rather_than_given_away(mode, project, open_on):
    os.chown(project, 0, 0)
    with pytest.raises(SandboxRefused, match="belongs to root"):
        async with open_on(project, mode):
            pass
    assert project.stat().st_uid == 0


def test_the_command_line_says_which_mode_a_session_has(tmp_path: Path):
    user = CliUser(tmp_path)
    os.chown(user.project, OWNER, OWNER)
    (user.project / ".env").write_text(f"S={CANARY}")
    refused = user.usermode("run", "x", "--workspace-mode", "bind", "--model", "scripted:none")
    assert refused.returncode == 2
    assert "policy file" in refused.stderr
    policy = user.project.parent / "trusted.toml"
    policy.write_text(
        'name = "trusted"\n[workspace]\nmode = "bind"\n'
        '[[rules]]\nsyscall = "*"\naction = "allow"\nreason = "Mine."\n'
    )
    [done] = user.session({"command": "echo hi > direct; cat .env"}, policy=str(policy))
    assert CANARY in done.result.content
    assert (user.project / "direct").read_text() == "hi\n"
    for argv in (["diff"], ["apply"], ["discard", "last"]):
        told = user.looks(*argv)
        assert told.returncode == 2
        assert "made directly" in told.stderr
    assert (user.project / "direct").exists()
    assert "WORKS ON YOUR DIRECTORY ITSELF" in user.looks("log").stdout
