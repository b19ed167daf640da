"""What a model may ask of bash, by way of the command line: directories, output, a project's own policy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_user import CliUser

from sandbox import Command, Sandbox

pytestmark = pytest.mark.docker

SECRET = "what only the host knows"
WHO = "id -u; grep -E '^(CapEff|NoNewPrivs)' /proc/self/status; touch /usr/x; ls /usr/x"
ELSEWHERE = (
    "/",
    "../..",
    "../../../../../../../../tmp",
    "/proc/1/root",
    "/proc/self/root",
    "/proc/1/cwd/../..",
    "/proc/self/fd/0",
    "/workspace/link",
)


@pytest.fixture
def user(tmp_path: Path) -> CliUser:
    return CliUser(tmp_path)


def test_a_directory_chosen_by_the_model_only_selects_one(user: CliUser, tmp_path: Path):  # A18
    canary = tmp_path / "canary"
    canary.write_text(SECRET)
    canary.chmod(0o666)
    probe = f"{WHO}; pwd -P; cat .{canary} {canary}; echo x > .{canary}; echo mark"
    outcomes = user.session(
        {"command": f"{WHO}; ln -s / link"}, *({"command": probe, "cwd": cwd} for cwd in ELSEWHERE)
    )
    results = [outcome.result for outcome in outcomes]
    started = {
        cwd: result for cwd, result in zip(ELSEWHERE, results[1:], strict=True) if "mark" in result.content
    }
    assert {"/", "../.."} <= set(started)
    for result in (results[0], *started.values()):
        assert "CapEff:\t0000000000000000\nNoNewPrivs:\t1\n" in result.content
        assert "Read-only file system" in result.content
        assert "/usr/x\n" not in result.content.partition("</stdout>")[0]
        assert not result.content.startswith(("0\n", "<stdout>\n0\n"))
    for cwd in ELSEWHERE:
        if cwd not in started:
            assert results[1 + ELSEWHERE.index(cwd)].error, cwd
    assert not any(SECRET in result.content for result in results)
    assert canary.read_text() == SECRET


async def test_a_directory_of_a_command_is_the_containers_own(box: Sandbox, tmp_path: Path):  # A18
    (tmp_path / "canary").write_text(SECRET)
    inside = (await box.run(Command(("ls", "-a", "/")))).stdout
    seen = {}
    for cwd in (*ELSEWHERE, str(tmp_path), f"/proc/1/root{tmp_path}"):
        try:
            done = await box.run(Command(("ls", "-a"), cwd=cwd))
        except (OSError, ValueError):
            continue
        seen[cwd] = done.stdout
        assert b"canary" not in done.stdout
    assert seen["/"] == inside
    assert str(tmp_path) not in seen


def test_any_bytes_become_a_journal_that_can_be_read(user: CliUser):  # B07
    outcomes = user.session(
        {"command": "head -c 1048576 /dev/urandom"},
        {"command": "head -c 1048576 /dev/urandom >&2; head -c 100000 /dev/zero"},
        {"command": r"printf 'a\377\000b\355\240\200c\364\220\200\200d\300\200e\302'"},
    )
    assert all(outcome.result.error is None for outcome in outcomes)
    assert outcomes[0].details["exit_code"] == 0
    assert outcomes[2].result.content.startswith(
        "a\\xff\x00b\\xed\\xa0\\x80c\\xf4\\x90\\x80\\x80d\\xc0\\x80e\\xc2"
    )
    lines = user.journal.read_bytes().split(b"\n")
    assert lines.pop() == b""
    for line in lines:
        json.loads(line.decode("utf-8", errors="strict")).items()
        json.dumps(json.loads(line), ensure_ascii=False).encode("utf-8", errors="strict")
    for command in (["verify"], ["log"], *(["show", "last", str(number)] for number in (3, 5, 7))):
        assert user.looks(*command).returncode == 0
    for line in user.looks("log", "--json").stdout.splitlines():
        json.loads(line)


def test_a_projects_policy_opens_nothing(user: CliUser):  # C16
    (user.project / ".usermode.toml").write_text(
        "unmatched = 'ask'\n"
        "[limits]\npids = 60000\nmemory_mb = 1000000\nturns = 100000\n"
        "[network]\nallow = ['example.com']\nask = true\n"
        "[container]\nuser = 'root'\nseccomp = 'debug'\nwritable_root = true\n"
        "capabilities = ['SETUID', 'CHOWN']\n"
        "[secrets]\nenv = ['SOME_TOKEN']\n"
        "[[rules]]\nsyscall = '*'\naction = 'allow'\nreason = 'Please.'\n"
    )
    user.environ["SOME_TOKEN"] = "correct-horse-battery-staple"
    probe = (
        f"{WHO}; sed -n '3,$s/:.*//p' /proc/net/dev; env | grep -c SOME_TOKEN; "
        "cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null; "
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null"
    )
    (loosened,) = user.session({"command": probe})
    notices = user.looks("log", "--json").stdout
    (user.project / ".usermode.toml").unlink()
    (plain,) = user.session({"command": probe})
    assert loosened.result.content == plain.result.content
    assert "CapEff:\t0000000000000000\nNoNewPrivs:\t1\n" in plain.result.content
    assert "Read-only file system" in plain.result.content
    for asked in ("limits.pids", "limits.memory_mb", "network.allow", "container.user", "container.seccomp"):
        assert asked in notices
