"""System calls that reach beyond the container, tried from inside a session (attacks A22 to A33, A37)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from policies import load
from sandbox import Command, SandboxSpec, open_sandbox

pytestmark = pytest.mark.docker

PROBE = Path(__file__).parents[1] / "policies" / "seccomp_probe.py"
REFUSED = ("EPERM", "ENOSYS")
BEYOND = (
    *("io_uring_setup", "io_uring_enter", "io_uring_register", "add_key", "request_key", "keyctl"),
    *("userfaultfd", "bpf", "perf_event_open", "fanotify_init", "unshare", "setns", "clone3"),
    *("mount", "umount2", "pivot_root", "chroot", "fsopen", "fsconfig", "fsmount", "move_mount", "open_tree"),
    *("mount_setattr", "pidfd_getfd", "kcmp", "process_madvise", "open_by_handle_at", "name_to_handle_at"),
    *("init_module", "finit_module", "kexec_load", "reboot", "swapon", "acct", "syslog", "settimeofday"),
    *("clock_settime", "adjtimex", "quotactl", "lookup_dcookie", "vhangup", "sethostname", "ptrace"),
    *("process_vm_readv", "process_vm_writev", "memfd_secret", "migrate_pages", "move_pages"),
)


async def outcomes_under(profile: str) -> dict[str, Any]:
    async with open_sandbox(SandboxSpec(policy=load(profile))) as box:
        done = await box.run(Command(("python3", "-"), stdin=PROBE.read_bytes(), timeout_s=60))
        assert done.exit_code == 0, done.stderr.decode()
        found: dict[str, Any] = json.loads(done.stdout)
        return found


@pytest.mark.parametrize("profile", ["strict", "dev", "eval", "offline"])
async def test_no_profile_lets_a_session_reach_beyond_its_container(profile: str):
    found = await outcomes_under(profile)
    assert {call: found[call] for call in BEYOND if call in found and found[call] not in REFUSED} == {}
    assert len([call for call in BEYOND if call in found]) > 40
    assert found["clone3"] == "ENOSYS"
    assert set(found["clone"].values()) == {"EPERM"}
    assert found["families"] == [1, 2, 10, 16]
    assert {found["vsock"], found["alg"], found["packet"]} == {"EPERM"}
    assert found["personality"]["0x40000"] == found["personality"]["0x400000"] == "EPERM"


async def test_libraries_still_find_their_way_without_clone3(python):  # A28
    assert await python(
        "import json, threading, subprocess\n"
        "seen = []\n"
        "threads = [threading.Thread(target=seen.append, args=(n,)) for n in range(8)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]\n"
        "echo = subprocess.run(['echo', 'x'], capture_output=True)\n"
        "print(json.dumps([sorted(seen), echo.stdout.decode()]))"
    ) == [list(range(8)), "x\n"]


async def test_no_process_can_look_into_another(python, runtime):  # A33, P02
    seen = await python(
        """
import ctypes, json, os, subprocess
libc = ctypes.CDLL(None, use_errno=True)
sibling = subprocess.Popen(["sleep", "30"])
done = []
for pid in (1, os.getppid(), sibling.pid):
    for request in (16, 0x4206):  # PTRACE_ATTACH, PTRACE_SEIZE
        if libc.ptrace(request, pid, 0, 0) == 0:
            done.append(("ptrace", pid))
look = {"fd": os.listdir, "fdinfo": os.listdir, "cwd": os.readlink, "root": os.readlink, "exe": os.readlink}
for name in ("mem", "environ", "maps", "io", "stack", "syscall", "auxv", *look):
    try:
        look.get(name, lambda path: open(path, "rb").read(1))(f"/proc/1/{name}")
        done.append(name)
    except OSError:
        pass
sibling.kill(); sibling.wait()
print(json.dumps(done))
"""
    )
    # gVisor shows these of every process to every other; init's hold nothing that its children's do not.
    assert set(seen) <= ({"environ", "maps", "auxv", "fd", "fdinfo"} if runtime == "runsc" else set())
