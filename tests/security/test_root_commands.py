"""Root commands: uid 0 inside with the policy's capabilities alone, ended whole, out of the guest's reach."""

from __future__ import annotations

import asyncio
import json
import os
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from policies import Policy, load
from sandbox import Command, Completed, Sandbox, SandboxSpec, open_sandbox
from sandbox.engine import Engine
from sandbox.errors import SandboxGone, SandboxRefused

RUNTIME = "runsc" if os.environ.get("USERMODE_TEST_RUNTIME") == "runsc" else "runc"
pytestmark = pytest.mark.docker

LISTED = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID")
MASK = f"{0b11001011:016x}"
NOTHING = f"{0:016x}"
SETS = "grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp):?' /proc/self/status"
CANARY = "canary-7f3a9c"
PACKAGE = r"""
set -e
mkdir -p /tmp/p/DEBIAN /tmp/p/usr/share/hello
printf '%s\n' 'Package: hello-root' 'Version: 1' 'Architecture: all' 'Maintainer: a <a@localhost>' \
  'Description: x' >/tmp/p/DEBIAN/control
printf '#!/bin/sh\nid -u >/usr/share/hello/installed-by\n' >/tmp/p/DEBIAN/postinst
chmod 755 /tmp/p/DEBIAN/postinst
echo hello >/tmp/p/usr/share/hello/world
dpkg-deb --build --root-owner-group /tmp/p /tmp/hello.deb >/dev/null
"""

ARCHIVE = r"""
set -e
mkdir -p /tmp/archive /tmp/d/DEBIAN
printf '%s\n' 'Package: daemon' 'Version: 1' 'Architecture: all' 'Maintainer: a <a@localhost>' \
  'Description: x' >/tmp/d/DEBIAN/control
printf '#!/bin/sh\nset -e\ngroupadd --system daemons\nuseradd --system -g daemons -d /nonexistent daemond\n' \
  >/tmp/d/DEBIAN/postinst
chmod 755 /tmp/d/DEBIAN/postinst
dpkg-deb --build --root-owner-group /tmp/d /tmp/archive/daemon.deb >/dev/null
cd /tmp/archive
{ cat /tmp/d/DEBIAN/control; echo Filename: ./daemon.deb; echo Size: $(stat -c %s daemon.deb)
  echo SHA256: $(sha256sum daemon.deb | cut -d ' ' -f 1); } >Packages
echo 'deb [trusted=yes] file:/tmp/archive ./' >/tmp/sources.list
"""
INSTALL = """
apt='apt-get -q -o Dir::Etc::SourceList=/tmp/sources.list -o Dir::Etc::SourceParts=/nonexistent'
$apt update && $apt install -y daemon
"""


def policy_with(may_ask: tuple[str, ...] = ("root",), **container: Any) -> Policy:
    policy = load("strict")
    limits = policy.limits.model_copy(update={"grace_s": 0.5})
    sudo = policy.sudo.model_copy(update={"may_ask": may_ask})
    changed = policy.container.model_copy(update=container)
    return policy.model_copy(update={"limits": limits, "sudo": sudo, "container": changed})


@asynccontextmanager
async def capable() -> AsyncIterator[Sandbox]:
    async with open_sandbox(SandboxSpec(policy=policy_with(writable_root=True, capabilities=LISTED))) as box:
        yield box


async def as_root(box: Sandbox, text: str, **fields: Any) -> Completed:
    return await box.run(Command(("sh", "-c", text), user="root", **fields))


async def sh(box: Sandbox, text: str) -> Completed:
    return await box.run(Command(("sh", "-c", text), cwd="/"))


def status(done: Completed) -> dict[str, str]:
    return {
        name: " ".join(value.split())
        for name, _, value in (line.partition(":") for line in done.stdout.decode().splitlines())
    }


def assert_filtered(seen: dict[str, str]) -> None:
    """gVisor keeps both and shows neither; what a filter refuses is tried elsewhere."""
    if RUNTIME == "runc":
        assert (seen["NoNewPrivs"], seen["Seccomp"]) == ("1", "2")


async def roots_in(box: Sandbox) -> list[str]:
    """Processes of another user than the sandbox's own."""
    found = await sh(box, "for p in /proc/[0-9]*; do stat -c '%u %n' $p; done 2>/dev/null")
    own = (await sh(box, "id -u")).stdout.decode().strip()
    return [
        line for line in found.stdout.decode().splitlines() if not line.startswith((f"{own} ", "0 /proc/1"))
    ]


async def test_root_has_what_the_policy_lists_and_the_sandbox_user_nothing() -> None:  # A01
    async with capable() as box:
        root = status(await as_root(box, SETS))
        assert {root[name] for name in ("Uid", "Gid")} == {"0 0 0 0"}
        assert root["Groups"] == "0"
        assert (root["CapEff"], root["CapPrm"], root["CapBnd"]) == (MASK, MASK, MASK)
        assert (root["CapInh"], root.get("CapAmb", NOTHING)) == (NOTHING, NOTHING)
        assert_filtered(root)
        for one in (status(await sh(box, SETS)), status(await sh(box, SETS.replace("self", "1")))):
            assert one["Uid"] != "0 0 0 0"
            assert {one[name] for name in ("CapEff", "CapPrm", "CapInh")} == {NOTHING}
            assert_filtered(one)
        # Neither a setuid program nor a capability of its own gives root more, or the sandbox user any.
        await as_root(box, "cp /bin/grep /usr/bin/sgrep; chmod 4755 /usr/bin/sgrep")
        seen = status(await sh(box, "/usr/bin/sgrep -E '^(Uid|CapEff)' /proc/self/status"))
        assert seen["CapEff"] == NOTHING
        assert seen["Uid"].split()[1] != "0"

        # What root is for: a package with a script of its own, a file below /etc.
        built = await sh(box, PACKAGE)
        assert built.exit_code == 0, built.stderr.decode()
        assert (await sh(box, "dpkg -i /tmp/hello.deb")).exit_code != 0
        done = await as_root(box, "dpkg -i /tmp/hello.deb && echo x >/etc/from-root", timeout_s=60)
        assert done.exit_code == 0, done.stderr.decode()
        seen_there = await sh(box, "cat /usr/share/hello/* /etc/from-root; stat -c %u /etc/from-root")
        assert seen_there.stdout == b"0\nhello\nx\n0\n"

        # Nothing of the privilege that the engine gave for starting it is left to find.
        for text in (
            "mknod /tmp/dev b 8 0; head -c 1 /tmp/dev | grep -q .", "mount -t tmpfs x /mnt",
            "umount /proc/kcore", "chroot / true", "echo x >/.usermode/init", "hostname x",
            "ip link add x type dummy", "date -s 2001-01-01", "echo 1 >/proc/sys/kernel/panic",
            "unshare -U true",
            "f=/sys/fs/cgroup/pids/pids.max; [ -e $f ] || f=/sys/fs/cgroup/pids.max; echo max >$f",
        ):  # fmt: skip
            assert (await as_root(box, text)).exit_code != 0, text
        if RUNTIME == "runc":  # under gVisor uid 0 may signal PID 1, and ends its own sandbox
            assert (await as_root(box, "kill -9 1; kill -STOP 1; sleep 0.1")).exit_code == 0
        assert (await sh(box, "echo alive")).stdout == b"alive\n"


async def test_users_are_made_by_hand_and_by_packages() -> None:
    """The tools for it speak to the kernel's audit first, and go on only where there is none."""
    async with capable() as box:
        made = "groupadd crew && useradd -m -g crew worker && usermod -c x worker && id worker"
        done = await as_root(box, made)
        assert (done.exit_code, done.stderr) == (0, b"")
        assert b"(worker)" in done.stdout
        assert b"(crew)" in done.stdout
        assert (await sh(box, ARCHIVE)).exit_code == 0
        done = await as_root(box, INSTALL, timeout_s=100)
        assert done.exit_code == 0, done.stdout + done.stderr
        seen = await sh(box, "id -gn daemond; dpkg-query -Wf '${Status}' daemon")
        assert seen.stdout == b"daemons\ninstall ok installed"


async def test_root_is_under_the_sessions_filter_whatever_started_it() -> None:
    """An engine's exec under gVisor is not: there the keeper installs the filter itself."""
    code = """if True:
        import ctypes, json
        libc, done = ctypes.CDLL(None), {}
        calls = {"unshare": (272, 0x10000000), "keyctl": (250, 0, -3, 0), "personality": (135, 0x40000),
                 "packet": (41, 17, 3, 0), "user": (56, 0x10000011, 0, 0, 0, 0), "mount": (165, 0, 0, 0, 0)}
        for name, words in calls.items():
            done[name] = libc.syscall(*map(ctypes.c_long, words))
        print(json.dumps(done))
    """
    async with capable() as box:
        done = await box.run(Command(("python3", "-c", code), user="root"))
        assert done.exit_code == 0, done.stderr.decode()
        assert set(json.loads(done.stdout).values()) == {-1}


async def test_a_root_command_ends_whole_and_says_how() -> None:
    async with capable() as box:
        done = await as_root(box, "cat; echo $$ >&2; pwd; exit 7", stdin=b"in" * 20_000, cwd="/etc")
        assert (done.exit_code, done.signal) == (7, None)
        assert done.stdout == b"in" * 20_000 + b"/etc\n"
        assert done.stderr.strip().isdigit()
        assert (await as_root(box, "kill -SEGV $$")).signal == 11
        assert (await box.run(Command(("/nope",), user="root"))).exit_code == 127
        assert (await box.run(Command(("/etc/passwd",), user="root"))).exit_code == 126
        with pytest.raises(FileNotFoundError):
            await as_root(box, "true", cwd="/nowhere")
        with pytest.raises(NotADirectoryError):
            await as_root(box, "true", cwd="/etc/passwd")

        # Its environment is root's own: no settings from where the sandbox user writes.
        shown = await as_root(box, "env", env={"GIVEN": "x"})
        named = dict(line.split("=", 1) for line in shown.stdout.decode().splitlines())
        assert (named["HOME"], named["GIVEN"]) == ("/root", "x")
        assert not [name for name, value in named.items() if "/home/sandbox" in value and name != "PWD"]

        # It leaves nobody behind: not in the background, not in another session, not when it is out of time.
        stay = "setsid sh -c 'trap \"\" TERM HUP; while :; do sleep 1; done' >/dev/null 2>&1 &"
        assert (await as_root(box, f"{stay} sleep 300 & echo said")).stdout == b"said\n"
        assert await roots_in(box) == []
        late = await as_root(
            box, f"{stay} trap '' TERM; echo begun; while :; do sleep 1; done", timeout_s=0.5
        )
        assert (late.timed_out, late.signal, late.stdout) == (True, 9, b"begun\n")
        assert await roots_in(box) == []
        kind = await as_root(box, "trap 'echo tidy; exit 3' TERM; while :; do sleep 0.1; done", timeout_s=2)
        assert (kind.timed_out, kind.exit_code, kind.stdout) == (True, 3, b"tidy\n")
        cancelled = asyncio.create_task(as_root(box, f"{stay} touch /etc/begun; sleep 300"))
        async with asyncio.timeout(20):
            while (await sh(box, "test -e /etc/begun")).exit_code:
                await asyncio.sleep(0.05)
        cancelled.cancel()
        with suppress(asyncio.CancelledError):
            await cancelled
        assert cancelled.cancelled()
        assert await roots_in(box) == []

        # A call is executed once.
        named_call = Command(("sh", "-c", "echo x >>/etc/count"), user="root", call_id="0123456789abcdef")
        assert (await box.run(named_call)).exit_code == 0
        with pytest.raises(SandboxRefused):
            await box.run(named_call)
        assert (await sh(box, "cat /etc/count")).stdout == b"x\n"


async def test_neither_the_sandbox_user_nor_the_command_itself_gets_at_the_keeper() -> None:
    async with capable() as box:
        running = asyncio.create_task(
            as_root(box, "echo $PPID >/tmp/keeper; echo $$ >/tmp/main; sleep 4; echo end; exit 5")
        )
        async with asyncio.timeout(20):
            while (await sh(box, "test -s /tmp/main")).exit_code:
                await asyncio.sleep(0.05)
        for name in ("keeper", "main"):
            tried = await sh(
                box,
                f"p=$(cat /tmp/{name}); kill -9 $p; kill -STOP $p; cat /proc/$p/fd/0 /proc/$p/fd/1;"
                f" echo x >/proc/$p/mem; echo x >/proc/$p/fd/1; echo -n >/proc/$p/oom_score_adj; echo tried",
            )
            assert tried.stdout == b"tried\n"
        # The command's own words go out as words, not as the keeper's records.
        forged = r"printf '\003\0\0\0\060\0\0\0%048d' 0; kill -9 $PPID; exit 9"
        done = await as_root(box, forged, stdin=b"x")
        assert done.exit_code == 9
        assert done.stdout_total == 56
        ended = await running
        assert (ended.exit_code, ended.stdout) == (5, b"end\n")
        # gVisor lets root open the keeper's descriptors. What it writes there is no record: the sandbox ends.
        forged = r"printf '\003\0\0\0\060\0\0\0%056d' 0 >/proc/$PPID/fd/1; exit 9"
        if RUNTIME == "runc":
            assert (await as_root(box, forged)).exit_code == 9
        else:
            with pytest.raises(SandboxGone):
                await as_root(box, forged)


async def test_a_flood_is_counted_and_kept_at_both_ends_in_bounded_memory() -> None:
    async with capable() as box:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        text = "echo first; head -c 200000000 /dev/zero; echo last; echo other >&2"
        done = await as_root(box, text, output_bytes=1000, timeout_s=100)
        assert (done.stdout_total, len(done.stdout)) == (200_000_011, 1000)
        assert (done.stdout[:6], done.stdout[-5:], done.stderr) == (b"first\n", b"last\n", b"other\n")
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10
        exact = await as_root(box, "head -c 1000 /dev/zero", output_bytes=1000)
        assert (len(exact.stdout), exact.truncated) == (1000, False)


async def test_root_without_capabilities_can_do_no_more_than_anybody() -> None:  # A01
    async with open_sandbox(SandboxSpec(policy=policy_with())) as box:
        root = status(await as_root(box, SETS))
        assert root["Uid"] == "0 0 0 0"
        assert {value for name, value in root.items() if name.startswith("Cap")} == {NOTHING}
        assert_filtered(root)
        await sh(box, "umask 077; echo x >/workspace/mine; mkdir -p /tmp/own; chmod 700 /tmp/own")
        for text in (
            "echo x >/etc/x", "echo x >/usr/x", "cat /workspace/mine", "chown 0 /workspace/mine",
            "ls /tmp/own",
        ):  # fmt: skip
            assert (await as_root(box, text)).exit_code != 0, text
        # Both are uid 0 here, so it may end its keeper. Then nobody watches over root: the sandbox ends.
        with pytest.raises(SandboxGone):
            await as_root(box, "kill -9 $PPID; sleep 300")
        with pytest.raises(SandboxGone):
            await sh(box, "true")


async def test_root_is_refused_where_the_policy_does_not_offer_it() -> None:
    async with open_sandbox(SandboxSpec(policy=policy_with(may_ask=("network",)))) as box:
        with pytest.raises(SandboxRefused):
            await as_root(box, "true")


async def test_what_the_engine_shows_of_a_root_command_holds_none_of_its_words() -> None:  # S01
    engine = await Engine.connect()
    try:
        async with open_sandbox(SandboxSpec(policy=policy_with())) as box:
            running = asyncio.create_task(
                as_root(box, f"echo {CANARY} >/tmp/begun; sleep 3", env={"X": CANARY}, stdin=CANARY.encode())
            )
            async with asyncio.timeout(20):
                while (await sh(box, "test -s /tmp/begun")).exit_code:
                    await asyncio.sleep(0.05)
            facts = await engine.inspect(box.ref)
            assert facts["ExecIDs"]
            assert CANARY not in json.dumps(facts)
            shown = await engine._call(lambda client: client.exec_inspect(facts["ExecIDs"][0]))
            assert shown["ProcessConfig"]["arguments"] == ["root"]
            assert shown["ProcessConfig"].get("privileged") is False
            assert CANARY not in json.dumps(shown)
            assert (await running).exit_code == 0
    finally:
        await engine.close()
