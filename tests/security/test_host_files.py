"""File calls resolve inside the container, whatever links the guest lays out (attacks C01, C02, C13)."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox import Command, Sandbox

pytestmark = pytest.mark.docker

SECRET = b"what only the host knows\n"


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    path = tmp_path / "canary"
    path.write_bytes(SECRET)
    path.chmod(0o666)
    tmp_path.chmod(0o777)
    return path


async def test_a_link_to_a_host_file_leads_nowhere(box: Sandbox, canary: Path):  # C01
    links = {
        "/workspace/absolute": str(canary),
        "/workspace/relative": "../" * 20 + str(canary),
        "/workspace/via-root": f"/proc/1/root{canary}",
        "/workspace/via-cwd": f"/proc/1/cwd/../../..{canary}",
        "/workspace/via-self": f"/proc/self/root{canary}",
    }
    for link, target in links.items():
        await box.run(Command(("ln", "-s", target, link)))
        with pytest.raises(OSError, match=r"No such file|Permission|Not a directory"):
            await box.read_file(link)
        with pytest.raises(OSError, match="Too many levels of symbolic links"):
            await box.write_file(link, b"overwritten")
    assert canary.read_bytes() == SECRET


async def test_a_link_to_passwd_shows_the_containers_own(box: Sandbox):  # C01
    await box.run(Command(("ln", "-s", "/etc/passwd", "/workspace/l")))
    inside = (await box.run(Command(("cat", "/etc/passwd")))).stdout
    assert await box.read_file("/workspace/l") == inside


async def test_a_new_file_behind_a_linked_directory_stays_inside(box: Sandbox, tmp_path: Path):  # C02
    tmp_path.chmod(0o777)
    await box.run(Command(("ln", "-s", "/", "/workspace/d")))
    await box.write_file(f"/workspace/d/tmp/{tmp_path.name}/pwned", b"x", parents=True)
    assert not (Path("/tmp") / tmp_path.name).exists()
    with pytest.raises(OSError, match=r"Read-only|No such file|Permission"):
        await box.write_file(f"/workspace/d{tmp_path}/../../pwned", b"x", parents=False)
    assert list(tmp_path.iterdir()) == []


async def test_links_that_change_while_files_are_asked_for_lead_nowhere(box: Sandbox, canary: Path):  # C01
    flip = (
        "import os\n"
        "while True:\n"
        f" for target in ({str(canary)!r}, '/workspace/good', '/proc/1/mem', '/dev/zero'):\n"
        "  os.symlink(target, '/workspace/new')\n"
        "  os.rename('/workspace/new', '/workspace/flip')\n"
    )
    await box.write_file("/workspace/good", b"good")
    call = await box.start(Command(("python3", "-c", flip), timeout_s=60))
    for _ in range(300):
        try:
            found = await box.read_file("/workspace/flip", limit=100)
        except (OSError, ValueError):
            continue
        assert found == b"good"
        try:
            await box.write_file("/workspace/flip", b"good")
        except (OSError, ValueError):
            continue
    await box.kill(call)
    assert canary.read_bytes() == SECRET


async def test_what_decides_stands_outside_the_workspace(box: Sandbox):  # C13
    limit = Command(("sh", "-c", "cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null"))
    before = await box.run(limit)
    for name in (
        "policy.toml",
        ".usermode/policy.toml",
        ".usermode.toml",
        "journal.jsonl",
        ".harness/policy.toml",
    ):
        await box.write_file(f"/workspace/{name}", b'name = "open"\n[limits]\npids = 60000\n', parents=True)
    done = await box.run(limit)
    assert done.stdout == before.stdout
    assert b"60000" not in done.stdout
    text = "find / -xdev ( -name 'journal*.jsonl' -o -name owner -o -name 'record*' ) 2>/dev/null"
    found = await box.run(Command(("sh", "-c", text.replace("(", "\\(").replace(")", "\\)"))))
    assert found.stdout == b""
    await box.run(Command(("rm", "-rf", "/workspace/journal.jsonl")))
    assert (await box.run(Command(("true",)))).exit_code == 0
