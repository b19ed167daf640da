"""What a session's processes are and may see (attacks A01 to A13, A21, A39)."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path

import pytest

from policies import load
from sandbox import Command, Sandbox, SandboxSpec, open_sandbox
from sandbox.runtime import Runtime

pytestmark = pytest.mark.docker

CORE_PATTERN = Path("/proc/sys/kernel/core_pattern")
STATUS = "grep -E '^(Cap|NoNewPrivs|Seccomp|Uid|Gid|Groups)' /proc/self/status"
NOTHING = "0000000000000000"
CAPABILITIES = {"CHOWN": 0, "DAC_OVERRIDE": 1, "FOWNER": 3, "SETGID": 6, "SETUID": 7, "NET_BIND_SERVICE": 10}


def facts(text: bytes) -> dict[str, str]:
    return {
        name: " ".join(value.split())
        for name, _, value in (line.partition(":") for line in text.decode().splitlines())
    }


def assert_contained(status: dict[str, str], runtime: Runtime) -> None:
    # gVisor tells neither in /proc; the next test asks the kernel itself.
    untold = {"CapAmb": NOTHING, "NoNewPrivs": "1"} if runtime == "runsc" else {}
    status = {**untold, **status}
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {NOTHING}
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    assert int(status.get("Seccomp_filters", "1")) >= 1


async def test_every_process_has_no_capability_no_new_privileges_and_a_filter(sh, runtime):  # A01, A02
    assert_contained(facts((await sh(STATUS)).stdout), runtime)
    assert_contained(facts((await sh(f'( setsid sh -c "{STATUS}" ) & wait')).stdout), runtime)
    assert_contained(facts((await sh(STATUS, tty=(24, 80))).stdout), runtime)


async def test_the_kernel_says_the_same_when_it_is_asked(python):  # A01, A02
    asked = await python(
        "import ctypes, json\n"
        "prctl = ctypes.CDLL(None).prctl\n"
        "bound = [prctl(23, number, 0, 0, 0) for number in range(41)]\n"
        "print(json.dumps({'nnp': prctl(39, 0, 0, 0, 0), 'filter': prctl(21, 0, 0, 0, 0), 'bound': bound}))"
    )
    assert asked == {"nnp": 1, "filter": 2, "bound": [0] * 41}


async def test_root_inside_has_no_capability_either(runtime):  # A01
    policy = load("eval")
    assert policy.container.user == "root"
    async with open_sandbox(SandboxSpec(policy=policy)) as box:
        status = facts((await box.run(Command(("sh", "-c", STATUS)))).stdout)
    assert status["Uid"] == "0 0 0 0"
    assert status.get("NoNewPrivs", "1" if runtime == "runsc" else None) == "1"
    assert status["Seccomp"] == "2"
    allowed = sum(1 << CAPABILITIES[name] for name in policy.container.capabilities)
    assert int(status["CapBnd"], 16) == allowed


async def test_setuid_programs_give_nothing(sh):  # A03
    await sh("cp $(command -v id) /tmp/id && chmod 6755 /tmp/id")
    found = await sh("find / -xdev -perm /6000 -type f 2>/dev/null; /tmp/id -u")
    assert found.stdout.split()[-1] != b"0"
    for attempt in (
        "su -c 'id -u'",
        "su root -c 'id -u'",
        "sudo -n id -u",
        "mount -t tmpfs none /tmp",
        "newgrp root",
    ):
        done = await sh(f"{attempt} </dev/null", timeout_s=5)
        assert done.stdout.strip() != b"0"
        assert done.exit_code != 0


async def test_the_user_is_not_root_here_nor_on_the_host(box: Sandbox, sh, runtime):  # A04
    assert int((await sh("id -u")).stdout) != 0
    mark = f"usermode-test-{secrets.token_hex(8)}"
    call = await box.start(Command(("sh", "-c", f": {mark}; echo ready; sleep 60; :")))
    while not (await box.progress(call)).stdout:
        pass
    owners = set()
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                if mark.encode() in (process / "cmdline").read_bytes():
                    owners.add(process.stat().st_uid)
            except OSError:
                continue
    await box.kill(call)
    # The processes of gVisor's kernel are none of the host's.
    assert bool(owners) == (runtime == "runc")
    assert 0 not in owners


async def test_nothing_outside_the_few_own_places_can_be_written(python):  # A05
    written = await python(
        """
import json, os
done = []
own = {"/tmp", "/workspace", "/home/sandbox", "/dev/shm", "/dev/mqueue"}
skip = own | {"/proc", "/sys/devices", "/sys/kernel"}
for where, directories, files in os.walk("/"):
    directories[:] = [name for name in directories if os.path.join(where, name) not in skip]
    try:
        path = os.path.join(where, "usermode-canary")
        open(path, "w").close()
        done.append(path)
        os.unlink(path)
    except OSError:
        pass
for path in ("/bin/ls", "/etc/passwd", "/etc/hosts", "/usr/bin/env", "/.usermode/init"):
    attempts = lambda: open(path, "r+b").close(), lambda: os.unlink(path), lambda: os.rename(path, path + "x")
    for attempt in attempts:
        try:
            attempt()
            done.append(path)
        except OSError:
            pass
print(json.dumps(done))
"""
    )
    assert written == []


async def test_writable_mounts_are_the_known_ones_and_carry_their_flags(sh, runtime):  # A06
    writable = {}
    mounts = (await sh("cat /proc/self/mountinfo")).stdout.decode().splitlines()
    for line in mounts:
        mount, _, source = line.partition(" - ")
        point, options = mount.split()[4:6]
        if "rw" in options.split(",") and not source.split()[2].startswith("ro"):
            writable[point] = set(options.split(","))
    own = {"/tmp", "/home/sandbox", "/workspace", "/dev/shm", "/dev/mqueue"}
    # Root's alone, or a null device in the place of a file; the effect is tried above.
    roots = {"/dev", "/dev/pts", "/proc", "/sys/fs/cgroup"}
    if runtime == "runsc":  # which has control groups of its own, and its mounts do not tell nosuid and nodev
        roots |= {point for point in writable if point.startswith("/sys/fs/cgroup/")}
    masks = {line.split()[4] for line in mounts if line.split()[3] == "/null"}
    assert set(writable) - masks <= own | roots
    for point, options in writable.items() if runtime == "runc" else ():
        assert "nosuid" in options, point
        assert "nodev" in options or point in {"/dev", "/dev/pts"} | masks, point


async def test_there_is_no_socket_to_speak_to(python):  # A07
    assert (
        await python(
            """
import json, os, stat
found = []
for where, directories, files in os.walk("/"):
    directories[:] = [name for name in directories if os.path.join(where, name) not in ("/proc", "/sys")]
    for name in files + directories:
        try:
            if stat.S_ISSOCK(os.lstat(os.path.join(where, name)).st_mode):
                found.append(os.path.join(where, name))
        except OSError:
            pass
listening = [line for line in open("/proc/net/unix").read().splitlines()[1:] if "/" in line]
print(json.dumps(found + listening))
"""
        )
        == []
    )


async def test_there_is_no_network_but_the_own_loopback(python):  # A08
    seen = await python(
        """
import json, os, socket
devices = [line.split(":")[0].strip() for line in open("/proc/net/dev").read().splitlines()[2:]]
reached = []
for host in ("172.17.0.1", "10.0.0.1", "192.168.0.1", "169.254.169.254", "8.8.8.8", "127.0.0.1"):
    for port in (22, 53, 80, 443, 2375, 2376, 10250, 2379, 5000):
        try:
            socket.create_connection((host, port), timeout=1).close()
            reached.append((host, port))
        except OSError:
            pass
names = []
for name in ("example.com", "host.docker.internal", "metadata.google.internal"):
    try:
        names.append(socket.getaddrinfo(name, 80))
    except OSError:
        pass
print(json.dumps({"devices": devices, "reached": reached, "names": names}))
"""
    )
    assert seen == {"devices": ["lo"], "reached": [], "names": []}


async def test_devices_are_the_harmless_ones_and_none_can_be_made(python, runtime):  # A09
    seen = await python(
        """
import json, os, stat
names = sorted(os.listdir("/dev"))
opened = []
for path in ("kmsg", "mem", "kvm", "fuse", "net/tun", "vda", "sda", "console", "port", "loop-control"):
    path = "/dev/" + path
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
        opened.append(path)
    except OSError:
        pass
for number in ((259, 0), (8, 0), (253, 0), (1, 1), (10, 232), (1, 11)):
    for kind in (stat.S_IFBLK, stat.S_IFCHR):
        try:
            path = f"/tmp/made-{number[0]}-{number[1]}-{kind}"
            os.mknod(path, kind | 0o666, os.makedev(*number))
            os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
            opened.append(number)
        except OSError:
            pass
print(json.dumps({"names": names, "opened": opened}))
"""
    )
    harmless = {
        "core",
        "fd",
        "mqueue",
        "null",
        "zero",
        "full",
        "random",
        "urandom",
        "ptmx",
        "pts",
        "shm",
        "tty",
    }
    # gVisor's own: a FUSE that nothing can be mounted with, and a tun that takes CAP_NET_ADMIN.
    its_own = {"fuse", "net"} if runtime == "runsc" else set()
    assert set(seen["names"]) <= harmless | {"stdin", "stdout", "stderr"} | its_own
    assert set(seen["opened"]) <= ({"/dev/fuse", "/dev/net/tun"} if its_own else set())


async def test_the_kernels_own_switches_cannot_be_turned(python, runtime):  # A10, A12, A13
    before = CORE_PATTERN.read_text()
    written = await python(
        """
import glob, json, os
paths = [
    "/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/sys/vm/drop_caches",
    "/proc/sys/fs/binfmt_misc/register", "/sys/kernel/uevent_helper", "/sys/power/state", "/proc/acpi/wakeup",
    "/proc/sys/vm/overcommit_memory", "/proc/sys/kernel/hostname", "/proc/irq/0/smp_affinity",
    "/proc/mtrr", "/proc/kcore", "/proc/1/oom_score_adj",
]
paths += glob.glob("/sys/fs/cgroup/**/*", recursive=True) + glob.glob("/proc/sys/net/**/*", recursive=True)
done = []
for path in paths:
    if os.path.isfile(path):
        try:
            with open(path, "r+b", buffering=0) as file:
                file.write(b"0")
            done.append(path)
        except OSError:
            pass
for score in (-1, -500, -1000):
    try:
        os.write(os.open("/proc/self/oom_score_adj", os.O_WRONLY), str(score).encode())
        done.append(score)
    except OSError:
        pass
print(json.dumps(done))
"""
    )
    # gVisor takes down a score and does nothing with it: the host ends its kernel as a whole.
    assert [one for one in written if runtime == "runc" or not isinstance(one, int)] == []
    assert CORE_PATTERN.read_text() == before


async def test_masked_files_say_nothing(sh):  # A13, A14
    done = await sh(
        "cat /proc/kcore /proc/keys /proc/timer_list /proc/sched_debug 2>/dev/null | wc -c; dmesg 2>/dev/null"
    )
    assert done.stdout.strip() == b"0"


async def test_cgroups_cannot_be_mounted_or_left(sh, tmp_path: Path):  # A11
    for attempt in (
        "mkdir -p /tmp/c && mount -t cgroup -o rdma c /tmp/c",
        "unshare -UrmC true",
        "unshare -m true",
        "nsenter -t 1 -a true",
        "chroot / true",
    ):
        assert (await sh(attempt)).exit_code != 0
    done = await sh(
        "for f in $(find /sys/fs/cgroup -name release_agent); do echo x > $f && echo wrote; done; ls /tmp/c"
    )
    assert done.stdout == b""


async def test_only_the_sessions_own_processes_are_seen(box: Sandbox, sh, open_box, runtime):  # A21
    secret = f"usermode-test-{secrets.token_hex(8)}"
    async with open_box() as other:
        await other.write_file(f"/tmp/{secret}", b"")
        call = await other.start(Command(("sh", "-c", f": {secret}; sleep 60; :")))
        done = await sh(
            "cat /proc/[0-9]*/cmdline | tr '\\0' ' '; ls -R /tmp /workspace /dev/shm /home/sandbox"
        )
        assert secret.encode() not in done.stdout
        await other.kill(call)
    pids = [int(pid) for pid in (await sh("ls /proc | grep -E '^[0-9]+$'")).stdout.split()]
    assert max(pids) < 100
    assert not re.search(rb"\bpython|\bdockerd", (await sh("cat /proc/[0-9]*/comm")).stdout)
    assert (await sh(f"kill -0 {os.getpid()}")).exit_code != 0
    # gVisor lists the numbers of descriptors to anyone; what is behind them it does not give (P01).
    listed = (await sh("for at in root cwd fd; do ls /proc/1/$at/; done")).stdout.split()
    assert [one for one in listed if runtime == "runc" or not one.isdigit()] == []


async def test_crashes_leave_no_core(box: Sandbox, sh):  # A39
    before = CORE_PATTERN.read_text()
    assert (
        await sh("ulimit -c; ulimit -Hc; ulimit -c unlimited 2>/dev/null; cd /tmp; sh -c 'kill -SEGV $$'; ls")
    ).stdout.split() == [b"0", b"0"]
    assert CORE_PATTERN.read_text() == before
    assert (await box.run(Command(("sh", "-c", "kill -SEGV $$"), cwd="/tmp"))).signal == 11
    assert [entry.path for entry in await box.list_dir("/workspace")] == []
