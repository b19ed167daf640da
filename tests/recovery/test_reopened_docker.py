"""A new container over what a session left: every mode of workspace, its own image and surroundings."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from left import commands, gone_on, left, results, taken_up, without_container

from harness.journal.reading import read, verify
from sandbox.egress.authority import Authority
from sandbox.engine import Engine
from sandbox.owner import SESSION
from sandbox.workspace import discard, release
from sandbox.workspace.quota import exact_unavailable

pytestmark = pytest.mark.docker

OWNER = 1234 if os.geteuid() == 0 else os.geteuid()
MODES = ["overlay", "bind"] if exact_unavailable() is None else ["bind"]
"""An overlay is mounted by root, on Linux. A copy is tried in `test_resume_docker.py`."""
SECRET = "ghx_0123456789abcdef"


def owned(top: Path) -> None:
    for path in [top, *top.rglob("*")]:
        os.chown(path, OWNER, OWNER, follow_symlinks=False)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    top = tmp_path / "project"
    top.mkdir()
    for name, text in {"a.txt": "a\n", "b.txt": "b\n", ".env": f"TOKEN={SECRET}\n"}.items():
        (top / name).write_text(text)
    owned(top)
    return top


def policy(tmp_path: Path, text: str) -> str:
    path = tmp_path / "policy.toml"
    path.write_text(text)
    return str(path)


async def containers(directory: Path) -> list[str]:
    engine = await Engine.connect()
    try:
        return [one["Id"] for one in await engine.containers({SESSION: directory.name})]
    finally:
        await engine.close()


@pytest.mark.parametrize("mode", MODES)
async def test_a_workspace_in_place_is_worked_on_as_it_was_left(tmp_path, project, mode):
    script = commands(
        "echo x >> ran; echo more >> a.txt; rm b.txt; sleep 30",
        "cat ran a.txt; ls -A; cat .env 2>&1; echo y >> new",
    )
    where = policy(tmp_path, f'extends = "strict"\n[workspace]\nmode = "{mode}"\n')
    directory = await left(tmp_path, script, "-p", where, "-w", str(project), after_s=1)
    await without_container(directory)
    if mode == "overlay":
        release(directory)  # the machine itself was restarted
    ended = await gone_on(tmp_path)
    assert ended.status == "done", ended.reason
    assert (taken_up(directory).sandbox, [one.fate for one in taken_up(directory).calls]) == (
        "reopened",
        ["unknown"],
    )
    shown = results(directory)[1]
    # Done once, all of it still there, and what was hidden is hidden still.
    assert shown.startswith("x\na\nmore\n")
    assert "b.txt" not in shown
    assert (SECRET in shown) is (mode == "bind")
    if mode == "bind":
        assert ended.changes == 0
        assert (project / "new").stat().st_uid == OWNER
    else:
        assert ended.changes == 4
        assert sorted(path.name for path in project.iterdir()) == [".env", "a.txt", "b.txt"]
        assert (project / "a.txt").read_text() == "a\n"
        discard(directory)
    assert await containers(directory) == []


@pytest.mark.skipif("overlay" not in MODES, reason="an overlay is mounted by root, on Linux")
async def test_a_secret_that_came_meanwhile_stands_against_it_until_it_is_moved(tmp_path, project):  # C18
    where = policy(tmp_path, 'extends = "strict"\n[workspace]\nmode = "overlay"\n')
    script = commands("echo x >> ran; sleep 30", "cat ran; cat later/.env 2>&1")
    directory = await left(tmp_path, script, "-p", where, "-w", str(project), after_s=0.7)
    await without_container(directory)
    (project / "later").mkdir()
    (project / "later" / ".env").write_text(SECRET)
    owned(project)
    ended = await gone_on(tmp_path)
    assert (ended.status, "later/.env" in ended.reason) == ("sandbox", True)
    assert await containers(directory) == []
    (project / "later" / ".env").unlink()
    ended = await gone_on(tmp_path)
    assert ended.status == "done", ended.reason
    assert results(directory)[-1].startswith("x\n")
    assert SECRET not in "".join(results(directory))
    assert verify(directory).ok
    discard(directory)


SURROUNDINGS = "env | grep -iE '^(pip|token|http|all_proxy|no_proxy|ssl|curl)' | sort"
OUTFIT = """extends = "strict"
[container]
image = "{image}"
[network]
allow = ["@pip", "api.test"]
intercept = true
ca_file = "{ca}"
[[secrets.bound]]
name = "TOKEN"
host = "api.test"
"""


@pytest.mark.parametrize("container", ["the same", "another"])
async def test_what_tools_and_programs_were_told_they_are_told_again(
    tmp_path, project, monkeypatch, container
):
    reference = f"usermode-test/{container.split()[-1]}-{os.getpid()}:latest"
    engine = await Engine.connect()
    base, dev = [await engine.image(f"usermode/{name}") for name in ("base", "dev")]
    await engine.tag(base.id, reference)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
    monkeypatch.setenv("TOKEN", SECRET)
    certificates = tmp_path / "ca.pem"
    certificates.write_bytes(Authority("of the company").pem)
    where = policy(tmp_path, OUTFIT.format(image=reference, ca=certificates))
    script = commands(
        f"{SURROUNDINGS} > before; cat before; sleep 1.2",
        f"{SURROUNDINGS} | diff before - && echo as before",
        'grep -c BEGIN "$SSL_CERT_FILE" >/dev/null && command -v gcc || echo the same image',
    )
    try:
        directory = await left(tmp_path, script, "-p", where, "-w", str(project), after_s=0.7)
        if container == "another":
            await without_container(directory)
            # The reference has come to mean another image.
            await engine.tag(dev.id, reference)
        monkeypatch.delenv("PIP_INDEX_URL")
        ended = await gone_on(tmp_path)
        assert ended.status == "done", ended.reason
    finally:
        await engine.remove_image(reference)
        await engine.close()
    found = taken_up(directory)
    shown = results(directory)
    if container == "the same":
        assert (found.sandbox, found.calls[0].fate) in (("attached", "reattached"), ("attached", "adopted"))
        for line in ("PIP_INDEX_URL=http://127.0.0.1:1/simple", "HTTPS_PROXY=", "SSL_CERT_FILE="):
            assert line in shown[0]
    assert found.sandbox == ("attached" if container == "the same" else "reopened")
    assert shown[1] == "as before\n[exit code 0]"
    assert shown[2] == "the same image\n[exit code 0]"
    assert SECRET not in "".join(map(repr, read(directory)))
