"""The seccomp filters: what they say, and what the kernel makes of them in a real container."""

import json
import subprocess
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from policies.filters import seccomp_profile

BASE = "usermode/base"
DEV = "usermode/dev"
PROBE = Path(__file__).with_name("seccomp_probe.py")
DOCS = Path(__file__).parents[2] / "docs" / "policies.md"
NAMES = ("strict", "default", "debug")
ADDED_BY_DEFAULT = """
    shmget shmat shmctl shmdt semget semop semtimedop semctl msgget msgsnd msgrcv msgctl
    mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr
    io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents splice tee vmsplice
    mbind get_mempolicy set_mempolicy set_mempolicy_home_node
    sched_setattr sched_setparam sched_setscheduler ioprio_set get_robust_list cachestat remap_file_pages
"""
ADDED_BY_DEBUG = {"ptrace", "process_vm_readv", "process_vm_writev"}
NEVER = """
    io_uring_setup io_uring_enter io_uring_register keyctl add_key request_key unshare setns clone3 mount
    umount umount2 pivot_root chroot fsopen fsconfig fsmount fspick move_mount open_tree open_tree_attr
    mount_setattr statmount listmount bpf perf_event_open userfaultfd kcmp pidfd_getfd process_madvise
    process_mrelease name_to_handle_at open_by_handle_at init_module finit_module delete_module
    create_module kexec_load kexec_file_load reboot swapon swapoff acct syslog settimeofday clock_settime
    clock_adjtime adjtimex stime iopl ioperm quotactl quotactl_fd lookup_dcookie nfsservctl vhangup
    sethostname setdomainname modify_ldt memfd_secret fanotify_init fanotify_mark migrate_pages move_pages
    uselib ustat sysfs _sysctl vm86 vm86old socketcall ipc
"""


def rules(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(seccomp_profile(name))["syscalls"]
    return found


def allowed(name: str) -> set[str]:
    return {call for rule in rules(name) if rule["action"] == "SCMP_ACT_ALLOW" for call in rule["names"]}


@pytest.mark.parametrize("name", NAMES)
def test_a_filter_refuses_by_default_on_native_architectures_only(name):
    profile = json.loads(seccomp_profile(name))
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    assert {entry["architecture"] for entry in profile["archMap"]} == {
        "SCMP_ARCH_X86_64",
        "SCMP_ARCH_AARCH64",
    }
    assert all(entry["subArchitectures"] == [] for entry in profile["archMap"])
    assert {rule["action"] for rule in rules(name)} == {"SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"}
    assert all(len(rule["comment"]) > 20 for rule in rules(name))


@pytest.mark.parametrize("name", NAMES)
def test_no_call_stands_twice_without_a_condition(name):
    plain = [call for rule in rules(name) if "args" not in rule for call in rule["names"]]
    conditional = {call for rule in rules(name) if "args" in rule for call in rule["names"]}
    assert len(plain) == len(set(plain))
    assert conditional == {"clone", "personality", "socket", "socketpair"}
    assert not conditional & set(plain)


def test_strict_is_small_and_each_filter_adds_exactly_what_is_documented():
    assert len(allowed("strict")) <= 290
    assert allowed("default") - allowed("strict") == set(ADDED_BY_DEFAULT.split())
    assert allowed("debug") - allowed("default") == ADDED_BY_DEBUG
    assert allowed("strict") < allowed("default") < allowed("debug")


@pytest.mark.parametrize("name", NAMES)
def test_the_documentation_counts_the_calls_of_each_filter(name):
    assert f"| `{name}` | {len(allowed(name))} |" in DOCS.read_text()


@pytest.mark.parametrize("name", NAMES)
def test_what_reaches_beyond_the_container_is_in_no_filter(name):
    assert allowed(name) & set(NEVER.split()) == set()


def test_a_filter_is_one_line_and_the_same_every_time():
    assert seccomp_profile("strict") is seccomp_profile("strict")
    assert "\n" not in seccomp_profile("strict")


@pytest.fixture(scope="module")
def outcomes() -> dict[str, dict[str, Any]]:
    """What came of each attempt under each filter, as root with the engine's own capabilities."""
    found = {}
    for name in NAMES:
        with resources.as_file(resources.files("policies") / "seccomp" / f"{name}.json") as path:
            argv = [
                "docker",
                "run",
                "--rm",
                "-i",
                "--network",
                "none",
                "--security-opt",
                f"seccomp={path}",
                BASE,
            ]
            done = subprocess.run(
                [*argv, "python3", "-"],
                input=PROBE.read_bytes(),
                stdout=subprocess.PIPE,
                check=True,
                timeout=60,
            )
        found[name] = json.loads(done.stdout)
    return found


@pytest.mark.docker
@pytest.mark.parametrize("name", NAMES)
def test_the_kernel_refuses_what_the_filter_does_not_name(outcomes, name):
    seen = {call: result for call, result in outcomes[name].items() if isinstance(result, str)}
    refused = {call for call in seen if call in NEVER.split()}
    assert len(refused) > 40
    assert {call: seen[call] for call in refused if seen[call] not in ("EPERM", "ENOSYS")} == {}


@pytest.mark.docker
def test_the_kernel_allows_what_a_wider_filter_adds(outcomes):
    for call in ("splice", "tee", "vmsplice", "shmget", "mq_open", "io_setup"):
        assert outcomes["strict"][call] == "EPERM"
        assert outcomes["default"][call] != "EPERM"
    for call in ADDED_BY_DEBUG:
        assert outcomes["strict"][call] == outcomes["default"][call] == "EPERM"
        assert outcomes["debug"][call] != "EPERM"


@pytest.mark.docker
@pytest.mark.parametrize("name", NAMES)
def test_only_unix_internet_and_route_sockets_can_be_made(outcomes, name):
    assert outcomes[name]["families"] == [1, 2, 10, 16]
    assert outcomes[name]["netlink"] == [0, 9]
    assert outcomes[name]["audit"] == "EPROTONOSUPPORT"
    assert outcomes[name]["inet"] == ([0, 6, 17] if name == "strict" else [0, 1, 6, 17, 262])
    assert {outcomes[name][family] for family in ("vsock", "alg", "packet")} == {"EPERM"}


@pytest.mark.docker
@pytest.mark.parametrize("name", NAMES)
def test_no_namespace_can_be_made_and_clone3_sends_libraries_back_to_clone(outcomes, name):
    assert set(outcomes[name]["clone"].values()) == {"EPERM"}
    assert outcomes[name]["clone3"] == "ENOSYS"


@pytest.mark.docker
@pytest.mark.parametrize("name", NAMES)
def test_protections_of_memory_cannot_be_switched_off(outcomes, name):
    persona = outcomes[name]["personality"]
    assert persona == {"0xffffffff": "ok", "0x0": "ok", "0x40000": "EPERM", "0x400000": "EPERM"}


@pytest.mark.docker
@pytest.mark.parametrize("name", NAMES)
def test_a_call_newer_than_the_list_does_not_exist(outcomes, name):
    """ENOSYS, not EPERM: that is what makes a C library try the older call."""
    assert outcomes[name]["from_the_future"] == "ENOSYS"
    assert outcomes[name]["openat2"] not in ("EPERM", "ENOSYS")
    assert outcomes[name]["pidfd_open"] not in ("EPERM", "ENOSYS")


@pytest.mark.docker
@pytest.mark.parametrize("name", NAMES)
def test_other_calling_conventions_do_not_get_around_the_filter(outcomes, name):
    assert outcomes[name]["x32"] in ("SIGSYS", "ENOSYS", "EPERM")


ORDINARY_WORK = r"""
set -eux
cd /tmp
export HOME=/tmp
git init -q w && cd w && git config user.email a@b.test && git config user.name n
printf 'int main(void) { return 0; }\n' > a.c && gcc -O2 a.c -o a && ./a
git add a.c && git commit -qm x && git gc -q
printf 'import multiprocessing as m\ndef test_it():\n    assert m.Pool(2).map(abs, [-1]) == [1]\n' > test_x.py
python3 -m pytest -q test_x.py
mkdir p && echo 'import setuptools as s; s.setup(name="p", version="1", py_modules=["mod"])' > p/setup.py
echo 'x = 1' > p/mod.py && python3 -m pip install -q --no-index --no-build-isolation --target t ./p
PYTHONPATH=t python3 -c 'import mod; assert mod.x == 1'
python3 -c 'import sqlite3; sqlite3.connect("d").executescript("pragma journal_mode=wal; create table t(a)")'
node -e 'new (require("worker_threads").Worker)("process.exit()", {eval: true})'
python3 -c 'import socket as s; l = s.create_server(("127.0.0.1", 0)); s.create_connection(l.getsockname())'
tar cz a.c | tar tz && find . -name '*.c' | xargs wc -l && timeout 5 nice true && setsid true
"""


@pytest.mark.docker
@pytest.mark.parametrize("name", ["strict", "default"])
def test_ordinary_development_work_runs_under_the_filter(name):
    with resources.as_file(resources.files("policies") / "seccomp" / f"{name}.json") as path:
        hardened = ["--network", "none", "--cap-drop", "ALL", "--user", "1000:1000"]
        security = ["--security-opt", "no-new-privileges", "--security-opt", f"seccomp={path}"]
        done = subprocess.run(
            [
                "docker",
                "run",
                "--rm",
                "-i",
                *hardened,
                *security,
                "--tmpfs",
                "/tmp:exec,mode=1777",
                DEV,
                "bash",
            ],
            input=ORDINARY_WORK.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=110,
        )
    assert done.returncode == 0, done.stdout.decode()
