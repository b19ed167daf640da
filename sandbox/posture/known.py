"""What is known to belong into a container: mounts, masks and devices of engines, and where limits are told.

Whatever else is found there is a difference.
"""

from __future__ import annotations

from sandbox.hardening import HOME, INIT, WORKSPACE

OURS = frozenset({"/tmp", "/dev/shm", "/etc/hosts", HOME, INIT, WORKSPACE})
"""Where alone a session's own mounts are, whatever was asked of the engine."""
ENGINES_OWN = {
    "/proc": "proc", "/dev": "tmpfs", "/dev/pts": "devpts", "/sys": "sysfs", "/dev/mqueue": "mqueue",
}  # fmt: skip
ENGINES_FILES = frozenset({"/etc/hostname", "/etc/hosts", "/etc/resolv.conf"})
MASKED = ("/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/scsi", "/proc/timer_list", "/sys/firmware")
"""By every engine that is supported; newer ones mask more."""
HELD = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
"""Paths that must be on a read-only mount."""
SWITCHES = (
    "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sysrq-trigger",
    "/sys/kernel/uevent_helper", "/proc/1/mem",
)  # fmt: skip
UNWRITABLE = ("/", "/etc", "/usr", "/usr/bin", "/var", "/dev", "/sys", "/sys/fs/cgroup", "/.usermode")
DEVICES = {
    "full": (1, 7), "null": (1, 3), "random": (1, 8), "tty": (5, 0), "urandom": (1, 9), "zero": (1, 5),
}  # fmt: skip
NO_DEVICES = frozenset({"core", "fd", "mqueue", "ptmx", "pts", "shm", "stderr", "stdin", "stdout"})
GVISORS_OWN = frozenset({("fuse", (10, 229)), ("net", (0, 0))})
"""Devices of gVisor's kernel, which the host never sees."""
NULL = (1, 3)
CANARY = ".usermode-posture"

MEMORY = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
SWAP = ("/sys/fs/cgroup/memory.swap.max", "/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes")
PIDS = ("/sys/fs/cgroup/pids.max", "/sys/fs/cgroup/pids/pids.max")
CPU = ("/sys/fs/cgroup/cpu.max", "/sys/fs/cgroup/cpu/cpu.cfs_quota_us")
BOUNDS = (*MEMORY, *SWAP, *PIDS, *CPU)
ROOTS_OWN = ("/dev", "/sys/fs/cgroup")
"""Places of root's own, in memory, that nothing reads."""
