"""Canaries of secrets on the host, hunted wherever a session could have left them (attacks S01 to S11)."""

from __future__ import annotations

import json
import re
import stat
import subprocess
import sys
from pathlib import Path

import docker
import pytest
from cli_user import CliUser

from policies import load
from policies.schema import Secrets
from sandbox import Command, SandboxSpec, open_sandbox

pytestmark = pytest.mark.docker

CANARIES = {
    "AWS_SECRET_ACCESS_KEY": "canary1aws0a1b2c3d4e5f60718293a4b5c6",
    "ANTHROPIC_API_KEY": "canary2anthropic0918273645afbecd",
    "DATABASE_PASSWORD": "canary3database7463528190qpwoeirut",
}
HUNT = (
    "env; cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\\0' '\\n'; mount; cat /proc/self/mountinfo"
)
PLACES = (
    "~/.ssh ~/.aws ~/.config ~/.netrc ~/.docker ~/.kube ~/.gnupg ~/.npmrc ~/.pypirc ~/.git-credentials "
    "/root/.ssh /root/.aws /root/.docker /root/.netrc /run/secrets /var/run/secrets /run/user"
)


@pytest.fixture
def user(tmp_path: Path) -> CliUser:
    user = CliUser(tmp_path)
    user.environ.update(CANARIES)
    return user


def found(text: str) -> list[str]:
    return [name for name, value in CANARIES.items() if value in text]


async def test_the_hosts_environment_is_neither_inside_nor_in_what_the_engine_shows(
    monkeypatch: pytest.MonkeyPatch,
):  # S01, S09
    for name, value in CANARIES.items():
        monkeypatch.setenv(name, value)
    async with open_sandbox(SandboxSpec(policy=load("dev"))) as box:
        done = await box.run(Command(("bash", "-c", HUNT), output_bytes=4 << 20))
        assert b"PATH=" in done.stdout  # the hunt sees an environment
        assert found(done.stdout.decode(errors="replace")) == []
        client = docker.APIClient()
        try:
            shown = json.dumps(client.inspect_container(box.ref)) + json.dumps(client.top(box.ref))
            history = json.dumps(client.history(client.inspect_container(box.ref)["Image"]))
        finally:
            client.close()
        assert "/.usermode/init" in shown
        assert found(shown) == []
        assert found(history) == []  # S02


async def test_a_variable_the_policy_names_is_inside_and_still_not_in_what_the_engine_shows(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("DATABASE_PASSWORD", CANARIES["DATABASE_PASSWORD"])
    policy = load("dev").model_copy(update={"secrets": Secrets(env=("DATABASE_PASSWORD",))})
    async with open_sandbox(SandboxSpec(policy=policy)) as box:
        done = await box.run(Command(("bash", "-c", HUNT), output_bytes=4 << 20))
        assert found(done.stdout.decode(errors="replace")) == ["DATABASE_PASSWORD"]
        client = docker.APIClient()
        try:
            assert found(json.dumps(client.inspect_container(box.ref))) == []
        finally:
            client.close()


async def test_no_place_that_usually_holds_credentials_is_there():  # S03
    async with open_sandbox(SandboxSpec(policy=load("dev"))) as box:
        done = await box.run(Command(("bash", "-c", f"ls -d {PLACES} /etc/passwd 2>/dev/null")))
    assert done.stdout == b"/etc/passwd\n"


SPLIT = """
import os, sys, time
for name in {names}:
    value = os.environ[name]
    for stream in (sys.stdout, sys.stderr):
        stream.write("plain " + value + " ")
        stream.write("split " + value[:7]); stream.flush(); time.sleep(0.2)
        stream.write(value[7:] + "\\n"); stream.flush()
    open("/workspace/" + value, "w").write(value)
"""
PRINTING = f"python3 - <<'END'\n{SPLIT.format(names=sorted(CANARIES))}\nEND\ntrue"
POLICY = (
    'extends = "dev"\n[secrets]\nenv = ["AWS_SECRET_ACCESS_KEY", "ANTHROPIC_API_KEY", "DATABASE_PASSWORD"]\n'
)


def test_a_secret_that_is_printed_reaches_no_journal_no_events_and_no_screen(
    user: CliUser, tmp_path: Path
):  # S05, S07
    policy = tmp_path / "policy.toml"
    policy.write_text(POLICY)
    value = CANARIES["DATABASE_PASSWORD"]
    command = f"{PRINTING}; ls /workspace; echo {value}; false {value}"
    replies = [
        {"text": f"I will use {value} now.", "calls": [{"name": "bash", "arguments": {"command": command}}]},
        {"calls": [{"name": "read", "arguments": {"path": f"/workspace/{value}"}}]},
        {"calls": [{"name": "read", "arguments": {"path": f"/nowhere/{value}"}}]},
        {"text": f"It was {value}."},
    ]
    user.script.write_text("".join(json.dumps(reply) + "\n" for reply in replies))
    said = ["run", f"find {value}", "--policy", str(policy), "--model", f"scripted:{user.script}"]
    for form in ((), ("--json",)):
        done = user.usermode(*said, *form)
        assert done.returncode == 0, done.stderr
        # It was there to be told: the commands ran, and every one of its mentions is marked.
        assert "redacted:DATABASE_PASSWORD" in done.stdout
        assert found(done.stdout + done.stderr) == []
    for session in (user.home / "sessions").iterdir():
        text = (session / "journal.jsonl").read_text()
        assert "redacted:AWS_SECRET_ACCESS_KEY" in text
        assert found(text) == []
        assert stat.S_IMODE((session / "journal.jsonl").stat().st_mode) == 0o600
        assert stat.S_IMODE(session.stat().st_mode) == 0o700
    for shown in (("log",), ("show", "last", "5"), ("ps", "--json"), ("verify",)):
        assert found(user.looks(*shown).stdout) == []


def test_a_terminal_shows_no_secret_either(user: CliUser, tmp_path: Path):  # S05
    policy = tmp_path / "policy.toml"
    policy.write_text(POLICY)
    replies = [{"calls": [{"name": "bash", "arguments": {"command": PRINTING}}]}, {"text": "Done."}]
    user.script.write_text("".join(json.dumps(reply) + "\n" for reply in replies))
    argv = [sys.executable, "-m", "harness", "run", "x", "-p", str(policy), "-m", f"scripted:{user.script}"]
    screen = subprocess.run(
        ["script", "-qec", " ".join(argv), "/dev/null"],
        cwd=user.project, env={**user.environ, "TERM": "xterm-256color"}, stdin=subprocess.DEVNULL,
        capture_output=True, timeout=100, check=True,
    ).stdout.decode(errors="replace")  # fmt: skip
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\s", "", screen)
    assert "redacted:DATABASE_PASSWORD" in plain
    assert found(plain) == []


def test_nothing_is_left_of_a_session(user: CliUser):  # S10
    user.session({"command": "echo left > /workspace/file; sleep 100 &"})
    session = user.journal.parent.name
    client = docker.APIClient()
    try:
        label = {"label": f"usermode.session={session}"}
        assert client.containers(all=True, filters=label) == []
        assert client.volumes(filters=label)["Volumes"] in (None, [])
        assert client.networks(filters=label) == []
    finally:
        client.close()
    mounts = Path("/proc/self/mountinfo").read_text()
    assert str(user.home) not in mounts
    assert not [name for name in Path("/tmp").iterdir() if session in name.name]
