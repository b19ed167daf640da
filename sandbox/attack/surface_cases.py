"""Attacks on the kernel: what of it a session can reach at all (A22 to A37)."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import replace
from errno import EAFNOSUPPORT

from sandbox.attack.case import Calls, Case, Program, Target, calls
from sandbox.posture.sweep import INVALID, NAMESPACES, SIGCHLD

STREAM, DATAGRAM, RAW, SEQPACKET = 1, 2, 3, 5
TOP = INVALID[0]


def sockets(*families: int, kinds: tuple[int, ...] = (STREAM, DATAGRAM, RAW, SEQPACKET)) -> Calls:
    attempts = tuple(("socket", (family, kind, 0)) for family in families for kind in kinds)
    return Calls(attempts, unknown=frozenset({EAFNOSUPPORT}))


FAMILIES = tuple(family for family in range(46) if family not in (1, 2, 10, 16, 38, 40))

RARE = replace(
    sockets(*FAMILIES),
    attempts=(
        *sockets(*FAMILIES).attempts,
        ("socket", (2, RAW, 1)),
        ("socket", (2, RAW, 255)),
        ("socket", (16, RAW, 12)),
    ),
)

LOOKING = Program(
    """
libc = ctypes.CDLL(None, use_errno=True)
sibling = subprocess.Popen(["sleep", "30"])
time.sleep(0.1)
for pid in (1, sibling.pid):
    for request in (16, 0x4206):  # PTRACE_ATTACH, PTRACE_SEIZE
        if libc.ptrace(request, pid, 0, 0) == 0:
            done.append(f"traces process {'1' if pid == 1 else 'beside it'}")
            break
tried("opened the memory of process 1", opened, "/proc/1/mem", os.O_RDONLY)
sibling.kill()
"""
)

FALLBACK = Program(
    """
import threading
seen = []
threads = [threading.Thread(target=seen.append, args=(n,)) for n in range(8)]
[one.start() for one in threads]
[one.join() for one in threads]
if sorted(seen) != list(range(8)) or succeeds("echo", "x") != "x\\n":
    done.append("threads and programs cannot be started any more")
for argv in (["unshare", "-Ur", "id"], ["unshare", "-Ur", "true"]):
    tried(" ".join(argv), succeeds, *argv)
"""
)


async def namespaces(target: Target) -> Sequence[str]:
    flags = Calls(
        (
            *(("clone", (flag | SIGCHLD, 0, 0, 0, 0, 0)) for flag in NAMESPACES.values()),
            ("clone3", INVALID),
            ("unshare", (NAMESPACES["user"],)),
        )
    )
    return [*await flags(target), *await FALLBACK(target)]


CLOCKS = Program(
    """
tried("set the clock", succeeds, "date", "-s", "@1")
class Timex(ctypes.Structure):
    _fields_ = [("modes", ctypes.c_uint), ("rest", ctypes.c_byte * 256)]
libc = ctypes.CDLL(None, use_errno=True)
if libc.adjtimex(ctypes.byref(Timex(modes=0x4000))) >= 0 and os.uname().release != "4.4.0":
    done.append("may adjust the clock")
"""
)

CASES = (
    Case("A22", "AF_ALG sockets", sockets(38)),
    Case("A23", "AF_VSOCK sockets", sockets(40)),
    Case("A24", "packet, raw and rare sockets", RARE),
    Case("A25", "io_uring", calls("io_uring_setup", "io_uring_enter", "io_uring_register")),
    Case("A26", "keyrings", calls("add_key", "request_key", "keyctl")),
    Case(
        "A27",
        "userfaultfd, bpf, perf, fanotify",
        calls("userfaultfd", "bpf", "perf_event_open", "fanotify_init"),
    ),
    Case("A28", "new namespaces, clone3", namespaces),
    Case(
        "A29",
        "the mount interfaces, old and new",
        calls(
            *(
                "mount",
                "umount2",
                "pivot_root",
                "chroot",
                "fsopen",
                "fsconfig",
                "fsmount",
                "fspick",
                "move_mount",
            ),
            *("open_tree", "mount_setattr"),
        ),
    ),
    Case("A30", "entering others' namespaces", calls("setns", "pidfd_getfd", "kcmp", "process_madvise")),
    Case("A31", "files by handle", calls("open_by_handle_at", "name_to_handle_at")),
    Case(
        "A32",
        "modules, kexec, reboot, clocks, the log",
        calls(
            *(
                "init_module",
                "finit_module",
                "delete_module",
                "kexec_load",
                "kexec_file_load",
                "reboot",
                "swapon",
            ),
            *("swapoff", "acct", "syslog", "settimeofday", "clock_settime", "iopl", "ioperm", "quotactl"),
            *("lookup_dcookie", "nfsservctl", "vhangup", "sethostname", "setdomainname"),
        ),
    ),
    Case("A33", "looking into other processes", LOOKING),
    Case(
        "A37",
        "personality, modify_ldt",
        Calls(
            (
                ("personality", (0x0040_0000,)),
                ("personality", (0x0004_0000,)),
                *((("modify_ldt", (0, TOP, 0)),) if platform.machine() == "x86_64" else ()),
            )
        ),
    ),
    Case("B18", "the host's clock", CLOCKS),
)
