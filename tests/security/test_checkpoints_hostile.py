"""A real session that makes its tree as awkward as it can, taken back, on, and taken up again."""

from __future__ import annotations

import asyncio
import json
import stat
from pathlib import Path

import pytest
from conftest import policy_with

from harness.boot.parts import RunOptions
from harness.boot.resume import ResumeOptions, resume
from harness.boot.start import run
from harness.commands.rewind import rewind
from harness.events import CallOutcome, Checkpointed, SessionEnded
from harness.journal.reading import read, verify
from harness.process.interrupt import Interrupt
from harness.store import Store
from sandbox import workspace
from sandbox.checkpoints.store import Store as Checkpoints

pytestmark = pytest.mark.docker

SHOWN = """
cd /workspace; exec 2>/dev/null
export LC_ALL=C
find . -mindepth 1 ! -type p ! -type c ! -name suid -printf '%P\\0%y\\0%m\\0%l\\n' | sort | sha256sum
find . -type f -readable -print0 | sort -z | xargs -0 sha256sum | sha256sum
"""
ORDINARY = """
mkdir -p sub/deep gone; echo one > a.txt; echo two > sub/deep/b; echo three > gone/c; ln -s a.txt link
chmod 750 sub/deep; chmod 600 sub/deep/b; printf '#!/bin/sh\\n' > run; chmod 755 run; : > $'odd \\xff\\n name'
"""
HOSTILE = """
rm -r gone; ln -s / gone; rm a.txt; ln -s /etc/passwd a.txt; mv sub moved; ln -s ../../../../../../.. sub
ln moved/deep/b hard; chmod 000 moved/deep/b; mkfifo pipe; mknod device c 1 3; mknod zero c 0 0
: > $(printf 'n%.0s' $(seq 255)); touch -- '-rf' '...'; truncate -s 90M giant; echo x >> giant
cp /bin/true suid; chmod 6755 suid; mkdir shut; echo hidden > shut/in; chmod 0 shut
mkdir many; cd many; seq 10000 | split -l 1 -a 4 -d; cd ..
d=.; for i in $(seq 60); do d=$d/d; done; mkdir -p $d
setfattr -n user.x -v y run; ln -s "$(printf 'x%.0s' $(seq 4000))" long
true
"""
ROUNDS = 4


def script(tmp_path: Path, *commands: str) -> str:
    path = tmp_path / f"script-{len(list(tmp_path.glob('script-*')))}.jsonl"
    lines = [{"calls": [{"name": "bash", "arguments": {"command": text}}]} for text in commands]
    path.write_text("".join(json.dumps(line) + "\n" for line in [*lines, {"text": "done"}]))
    return f"scripted:{path}"


def results(directory: Path) -> list[str]:
    return [one.entry.result.content for one in read(directory) if isinstance(one.entry, CallOutcome)]


def numbers(directory: Path) -> list[int]:
    return [one.entry.number for one in read(directory) if isinstance(one.entry, Checkpointed)]


def outside(top: Path) -> dict[str, tuple[int, int, bytes]]:
    """All that lies beside the session: what a link out of it would reach first."""
    return {
        str(path): (path.lstat().st_ino, path.lstat().st_mode, path.read_bytes() if path.is_file() else b"")
        for path in top.rglob("*")
    }


async def test_no_tree_reaches_out_of_its_checkpoints_and_each_comes_back(tmp_path, monkeypatch):
    home = tmp_path / "home"
    project, canary = tmp_path / "project", tmp_path / "canary"
    for path in (project / "kept", canary / "inner"):
        path.mkdir(parents=True)
        (path / "file").write_text("as it was\n")
    policy = policy_with(checkpoints=4, checkpoint_mb=40)

    async def goes_on(replies: int, *commands: str, message: str = "") -> SessionEnded:
        """`replies` have been given, and a script begins with the first."""
        model = script(tmp_path, *[""] * replies, *commands)
        options = ResumeOptions("last", message, model, home=home, watched=False)
        return await resume(options, lambda event: None, Interrupt())

    said = script(
        tmp_path, f"{ORDINARY}{SHOWN}cd sub/deep", f"cd /workspace\n{{\n{HOSTILE}}} 2>/dev/null\n{SHOWN}"
    )

    async def goes_back(to: int) -> None:
        with monkeypatch.context() as here:
            here.setenv("USERMODE_HOME", str(home))
            await asyncio.to_thread(rewind, row.directory.name, to)

    options = RunOptions(
        task="try it", model=said, policy=policy, workspace=project, home=home, watched=False
    )
    before = outside(project), outside(canary), Path("/etc/passwd").stat()
    ended = await run(options, lambda event: None, Interrupt())
    assert ended.status == "done", ended.reason
    (row,) = Store(home).list()
    ordinary, hostile = (text.split("\n")[:2] for text in results(row.directory))
    assert numbers(row.directory) == [0, 1, 2]

    # Back, and the model goes on where it stood.
    await goes_back(1)
    assert (await goes_on(1, f"pwd\n{SHOWN}", "echo gone on > sub/deep/new")).status == "done"
    assert results(row.directory)[2].split("\n")[:3] == ["/workspace/sub/deep", *ordinary]

    # Forward to what was hostile: as it was, less what is never kept.
    await goes_back(2)
    with workspace.opened(row.directory) as tree:
        assert (tree / "gone").readlink() == Path("/")
        assert stat.S_IMODE((tree / "suid").lstat().st_mode) == 0o755
        assert (tree / "hard").stat().st_nlink == 1
        assert not [path for path in tree.rglob("*") if stat.S_ISCHR(path.lstat().st_mode)]
        assert len(list((tree / "many").iterdir())) == 10_000
    assert (await goes_on(2, f"cd /workspace; chmod u+s suid\n{SHOWN}", message="look")).status == "done"
    assert results(row.directory)[4].split("\n")[:2] == hostile

    # Bounded in number and bytes, whatever is written again and again.
    grows = [
        f"cd /workspace; rm -rf many; head -c 20M /dev/urandom > big; echo {number}"
        for number in range(ROUNDS)
    ]
    assert (await goes_on(4, *grows, message="grow")).status == "done"
    with Checkpoints(row.directory) as store:
        assert len(store.numbers()) <= policy.limits.checkpoints + 1
        assert store.packs.size <= policy.limits.checkpoint_mb << 20
        assert store.numbers()[-1] == numbers(row.directory)[-1]
    held = sum(path.stat().st_size for path in (row.directory / "checkpoints").iterdir())
    assert held <= (policy.limits.checkpoint_mb << 20) * 1.1
    assert stat.S_IMODE((row.directory / "checkpoints").stat().st_mode) == 0o700

    assert (outside(project), outside(canary)) == before[:2]
    assert Path("/etc/passwd").stat().st_mtime_ns == before[2].st_mtime_ns
    assert verify(row.directory).ok
    workspace.discard(row.directory)
