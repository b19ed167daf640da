"""The guest against the wire and its init: it cannot speak for it, end it or forge results (P, C15)."""

from __future__ import annotations

import asyncio
import os
import secrets

import pytest

from sandbox import Command, Sandbox
from sandbox.engine import Engine
from sandbox.errors import SandboxGone

pytestmark = pytest.mark.docker


async def test_no_descriptor_of_the_wire_can_be_had(python, runtime):  # P01, P04
    had = await python(
        """
import json, os
got = []
for pid in [name for name in os.listdir("/proc") if name.isdigit()]:
    for number in range(64):
        for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
            try:
                fd = os.open(f"/proc/{pid}/fd/{number}", flags | os.O_NONBLOCK)
            except OSError:
                continue
            if int(pid) != os.getpid() and os.readlink(f"/proc/self/fd/{fd}") not in ("/dev/null",):
                got.append((pid, number, os.readlink(f"/proc/self/fd/{fd}")))
            os.close(fd)
print(json.dumps([one for one in got if one[0] == "1"]))
"""
    )
    # Under gVisor pipes of the commands can be reached by way of init's numbers as by their own. The wire and
    # whatever else comes from the host cannot.
    wire = [one for one in had if one[1] <= 2 or one[2].startswith("host:")]
    assert wire == []
    assert runtime == "runsc" or had == []


async def test_results_and_marks_that_a_command_prints_are_only_output(box: Sandbox):  # C15, P04
    forged = (
        b'\x00\x00\x00\x00exit 0\n\x1b]133;D;0\x07\nEXIT:0\n__END__ 0\n{"exit_code": 0}\n'
        + bytes(range(66, 72)) * 500
        + secrets.token_bytes(3000)
    )
    await box.write_file("/tmp/forged", forged)
    hostile = (
        "printf() { :; }; builtin() { :; }; PS1='$ '; PROMPT_COMMAND='exit 0'; eval 'cat /tmp/forged; exit 9'"
    )
    done = await box.run(Command(("bash", "-c", hostile)))
    assert (done.exit_code, done.stdout) == (9, forged)
    for where in ("/proc/1/fd/1", "/proc/1/fd/0", "/dev/console", "/dev/tty"):
        await box.run(Command(("sh", "-c", f"cat /tmp/forged > {where}")))
    assert (await box.run(Command(("echo", "fine")))).stdout == b"fine\n"


async def test_init_can_be_neither_killed_nor_stopped_nor_replaced(box: Sandbox, python):  # P02
    assert (
        await python(
            """
import json, os, signal
done = []
for number in range(1, 65):
    try:
        os.kill(1, number)
    except OSError:
        pass
for attempt in ("/.usermode/init", "/proc/1/exe"):
    for flags in (os.O_WRONLY, os.O_RDWR):
        try:
            os.open(attempt, flags)
            done.append(attempt)
        except OSError:
            pass
try:
    os.rename("/.usermode", "/.gone"); done.append("renamed")
except OSError:
    pass
print(json.dumps(done))
"""
        )
        == []
    )
    await asyncio.sleep(0.2)
    assert (await box.run(Command(("echo", "fine")))).stdout == b"fine\n"


async def test_killing_the_supervisors_is_noticed_and_costs_only_their_own_call(box: Sandbox):  # P02
    other = await box.start(Command(("sh", "-c", "echo there; sleep 60"), timeout_s=20))
    text = (
        "import os, signal, time\n"
        "parent = os.getppid()\n"
        "os.kill(parent, signal.SIGKILL)\n"
        "print('orphaned', flush=True)\n"
        "time.sleep(60)\n"
    )
    async with asyncio.timeout(30):
        done = await box.run(Command(("python3", "-c", text), timeout_s=10))
    assert done.exit_code != 0
    assert (await box.progress(other)).running
    await box.kill(other)
    async with asyncio.timeout(30):
        while await box.jobs():
            await asyncio.sleep(0.05)


async def test_the_end_of_a_container_is_told_as_such_at_once(box: Sandbox):  # P02, B11
    waiting = asyncio.create_task(box.run(Command(("sleep", "60"))))
    await asyncio.sleep(0.3)
    engine = await Engine.connect()
    try:
        await engine.remove(box.ref)
    finally:
        await engine.close()
    async with asyncio.timeout(30):
        [outcome] = await asyncio.gather(waiting, return_exceptions=True)
        assert isinstance(outcome, SandboxGone)
        with pytest.raises(SandboxGone):
            await box.run(Command(("true",)))
        with pytest.raises(SandboxGone):
            await box.read_file("/etc/passwd")


async def test_the_engine_shows_no_secret_of_the_host(monkeypatch: pytest.MonkeyPatch, open_box):  # S01
    canary = f"canary-{secrets.token_hex(8)}"
    monkeypatch.setenv("ANTHROPIC_API_KEY", canary)
    engine = await Engine.connect()
    try:
        async with open_box() as box:
            assert canary not in repr(await engine.inspect(box.ref))
    finally:
        await engine.close()


async def test_what_the_host_has_is_not_in_the_session(monkeypatch: pytest.MonkeyPatch, open_box):  # S01
    canary = f"canary-{secrets.token_hex(8)}"
    for name in ("ANTHROPIC_API_KEY", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "SSH_AUTH_SOCK"):
        monkeypatch.setenv(name, canary)
    async with open_box() as box:
        done = await box.run(
            Command(("sh", "-c", "env; cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\\0' '\\n'"))
        )
        assert canary.encode() not in done.stdout
        assert os.environ["GITHUB_TOKEN"] == canary
