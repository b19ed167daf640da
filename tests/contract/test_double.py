"""What the in-memory double promises beside the contract: Python commands, no host process, no host file."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

import pytest
from sandboxes import docker

from sandbox.memory import GuestProcess, MemorySandbox
from sandbox.protocol import Command, Sandbox


async def test_a_command_written_in_python_is_a_command_like_any_other() -> None:
    async def pytest_double(process: GuestProcess) -> int:
        source = process.files.get("package.py", process.cwd)
        fixed = b"return a + b" in source.data
        await process.out("1 passed\n" if fixed else "1 failed\n")
        await process.err(" ".join(process.argv[1:]) + process.env.get("MODE", ""))
        return 0 if fixed else 1

    files = {"/workspace/package.py": "def add(a, b): return a - b\n"}
    async with MemorySandbox(files=files, commands={"pytest": pytest_double}) as box:
        red = await box.run(Command(("pytest", "-q"), env={"MODE": "!"}))
        assert (red.exit_code, red.stdout, red.stderr) == (1, b"1 failed\n", b"-q!")
        await box.write_file("/workspace/package.py", b"def add(a, b): return a + b\n")
        green = await box.run(Command(("sh", "-c", "pytest | tr a-z A-Z && echo done")))
        assert green.stdout == b"1 PASSED\ndone\n"


async def test_a_python_command_reads_its_input_and_can_be_killed() -> None:
    async def shout(process: GuestProcess) -> int:
        while data := await process.read():
            await process.out(data.upper())
        await asyncio.sleep(3600)
        return 0

    async with MemorySandbox(commands={"shout": shout}) as box:
        done = await box.run(Command(("shout",), stdin=b"hey", timeout_s=0.2))
        assert (done.stdout, done.timed_out, done.signal) == (b"HEY", True, 15)


async def test_a_mistake_in_a_python_command_reaches_the_test() -> None:
    async def broken(process: GuestProcess) -> int:
        raise LookupError("the test's own mistake")

    async with MemorySandbox(commands={"broken": broken}) as box:
        with pytest.raises(LookupError, match="own mistake"):
            await box.run(Command(("broken",)))


async def test_nothing_of_the_host_is_run_or_touched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the double reached for the host")

    for module, name in (
        (os, "fork"),
        (os, "posix_spawn"),
        (os, "execve"),
        (os, "open"),
        (subprocess, "Popen"),
    ):
        monkeypatch.setattr(module, name, refuse)
    monkeypatch.setattr("builtins.open", refuse)
    async with MemorySandbox() as box:
        text = f"mkdir -p {tmp_path}; echo x > {tmp_path}/made; cat {tmp_path}/made /etc/hostname; kill -9 -1"
        done = await box.run(Command(("sh", "-c", text)))
        await box.write_file(f"/home/sandbox{tmp_path}/file", b"x", parents=True)
    assert done.exit_code != 0
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - Path's own would be refused as well


@pytest.mark.parametrize(
    "text",
    ["cat <<E\nx\nE", "set -o pipefail", "ls -l", "find . -name x", "if true", "echo $((1 +))", "x=${y/a/b}"],
)
async def test_what_the_double_does_not_know_it_refuses_aloud(text: str) -> None:
    async with MemorySandbox() as box:
        try:
            done = await box.run(Command(("sh", "-c", text)))
        except NotImplementedError:
            return
    assert done.exit_code in (2, 127)
    assert done.stderr


SHELL = {
    "echo a b | tr a-z A-Z": "A B",
    "false || echo or": "or",
    "true && false; echo $?": "1",
    "! false && echo not": "not",
    "x='a  b'; echo $x; echo \"$x\"": "a b\na  b",
    "set -- 1 '2 3'; echo $#; for a in \"$@\"; do echo [$a]; done": "2\n[1]\n[2 3]",
    "f() { echo in $1; return 3; }; f x; echo $?": "in x\n3",
    "case b in a) echo A;; b|c) echo BC;; *) echo other;; esac": "BC",
    "i=3; until [ $i -eq 0 ]; do i=$((i - 1)); done; echo $i": "0",
    "for i in 1 2 3; do [ $i = 2 ] && continue; echo $i; done": "1\n3",
    "if [ -d /tmp ]; then echo yes; elif true; then echo maybe; else echo no; fi": "yes",
    "echo out; echo err >&2": "out",
    "echo a > /tmp/f; echo b >> /tmp/f; cat < /tmp/f": "a\nb",
    "(cd /tmp; pwd); pwd": "/tmp\n/workspace",
    "echo $(echo inner $(echo deep)) `echo old`": "inner deep old",
    "x=a.tar.gz; echo ${x%.*} ${x%%.*} ${x#*.} ${x##*.} ${#x}": "a.tar a tar.gz gz 8",
    "x=set; echo ${y:-none} ${x:+some} ${z=given} $z": "none some given given",
    "trap 'echo bye' EXIT; echo hi": "hi\nbye",
    "sleep 5 & kill $!; wait $!; echo $?": "143",
    "set -e; if false; then :; fi; false || true; echo on; false; echo never": "on",
    "export A=1; B=2 sh -c 'echo $A$B'; echo ${B-unset}": "12\nunset",
    "echo x y > /tmp/r; read a b < /tmp/r; echo $b $a": "y x",
    "touch b.txt a.txt; echo *.txt '*.txt' nothing*": "a.txt b.txt *.txt nothing*",
    "eval 'echo $((7 / 2)) $((7 % 2)) $((2 < 3))'": "3 1 1",
    "printf '%03d|%5s|%-3s|\\n' 7 ab c": "007|   ab|c  |",
}


@pytest.mark.parametrize("text", SHELL)
async def test_the_doubles_shell_says_what_a_shell_says(text: str) -> None:
    async with MemorySandbox() as box:
        done = await box.run(Command(("sh", "-c", text)))
    assert done.stdout.decode() == SHELL[text] + "\n"


@pytest.mark.docker
async def test_a_real_shell_says_the_same() -> None:
    async with docker("runc")() as box:
        for text, expected in SHELL.items():
            await box.run(Command(("sh", "-c", "rm -rf /workspace/* /tmp/*")))
            done = await box.run(Command(("sh", "-c", text)))
            assert (text, done.stdout.decode()) == (text, expected + "\n")


def test_the_double_is_a_sandbox_to_the_type_checker() -> None:
    box: Sandbox = MemorySandbox()
    assert box.ref.startswith("memory:")


async def test_detached_it_runs_on_and_attached_it_answers() -> None:
    box = MemorySandbox()
    call = await box.start(Command(("sh", "-c", "sleep 0.1; echo finished")))
    await box.detach()
    with pytest.raises(ConnectionError):
        await box.run(Command(("true",)))
    assert (await box.attach().result(call)).stdout == b"finished\n"
    await box.close()
