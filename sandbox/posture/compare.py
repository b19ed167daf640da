"""Comparing what was measured with what is configured: one function a subject, each yields its differences.

Strict by rule: what is not known to belong there is a difference, and so is a question without an answer.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from errno import EINVAL, ENOENT

from sandbox.hardening import HOME, INIT, WORKSPACE
from sandbox.posture.expected import Expected
from sandbox.posture.facts import (
    MOUNTS,
    NETWORK,
    STATUS,
    Answer,
    Mount,
    entries,
    mounts,
    network_devices,
    place,
    status,
)
from sandbox.posture.numbers import numbers
from sandbox.posture.sweep import ENDED_BY, attempts

AT_NO_AUTOMOUNT = 0x800
Answers = Mapping[str, Answer]
Subject = Callable[[Expected, Answers], Iterator[str]]

OURS = frozenset({"/tmp", "/dev/shm", "/etc/hosts", HOME, INIT, WORKSPACE})
"""Where alone a session's own mounts are, whatever was asked of the engine."""
ENGINES_OWN = {
    "/proc": "proc", "/dev": "tmpfs", "/dev/pts": "devpts", "/sys": "sysfs", "/dev/mqueue": "mqueue",
}  # fmt: skip
ENGINES_FILES = frozenset({"/etc/hostname", "/etc/hosts", "/etc/resolv.conf"})
MASKED = (
    "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats",
    "/sys/devices/virtual/powercap", "/sys/firmware",
)  # fmt: skip
ALWAYS_MASKED = ("/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/scsi", "/proc/timer_list", "/sys/firmware")
"""By the oldest engine that is supported; newer ones mask more of the list above."""
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


def identity(want: Expected, found: Answers) -> Iterator[str]:
    said = status(found[f"r {STATUS}"].text)
    for name, number in (("Uid", want.uid), ("Gid", want.gid)):
        if set(said.get(name, ())) - _kept(want, said, name) != {str(number)}:
            yield f"{name} is {' '.join(said.get(name, ()))}, not {number}"
    if extra := set(said.get("Groups", ())) - {str(want.gid)}:
        yield f"further groups: {' '.join(sorted(extra))}"


def _kept(want: Expected, said: Mapping[str, Sequence[str]], name: str) -> set[str]:
    """Under gVisor PID 1 stays root in name (`as UID GID MASK apart`), so that it cannot be signalled."""
    apart = want.runtime == "runsc" and want.uid and name == "Uid" and list(said.get("Pid", ())) == ["1"]
    return {"0"} if apart else set()


def privileges(want: Expected, found: Answers) -> Iterator[str]:
    said = status(found[f"r {STATUS}"].text)
    allowed = {"CapBnd": {want.capabilities}, "CapAmb": {0}, "CapInh": {0, want.capabilities}}
    allowed["CapPrm"] = allowed["CapEff"] = {want.capabilities if want.uid == 0 else 0}
    for name, values in allowed.items():
        if name not in said and name == "CapAmb" and want.runtime == "runsc":
            continue
        if _hex(said.get(name, ())) not in values:
            yield f"{name} is {' '.join(said.get(name, ())) or 'not told'}, not {max(values):016x}"
    if want.runtime == "runc" and said.get("NoNewPrivs") != ["1"]:  # gVisor has no such line
        yield "privileges can be gained: NoNewPrivs is not 1"
    if said.get("Seccomp") != ["2"] or said.get("Seccomp_filters", ["1"]) == ["0"]:
        yield "no seccomp filter is installed"


def mount_table(want: Expected, found: Answers) -> Iterator[str]:
    table = mounts(found[f"r {MOUNTS}"].text)
    seen = [mount.point for mount in table]
    yield from (f"two mounts on {point}" for point in sorted(set(seen)) if seen.count(point) > 1)
    yield from (f"{point} is no place for a mount" for point in want.mounts if not _ours(point))
    for mount in table:
        if mount.point == "/":
            if mount.read_only == want.writable_root:
                yield f"the root is {'read-only' if mount.read_only else 'writable'}"
        elif mount.point in want.mounts:
            yield from _configured(want, mount)
        else:
            yield from _of_the_engine(want, mount)
    yield from (f"nothing is mounted on {point}" for point in sorted({"/", *want.mounts} - set(seen)))


def _ours(point: str) -> bool:
    return point in OURS or point.startswith(f"{WORKSPACE}/")


def _configured(want: Expected, mount: Mount) -> Iterator[str]:
    wanted = want.mounts[mount.point]
    if wanted.kind == "tmpfs" and mount.kind != "tmpfs":
        yield f"{mount.point} is {mount.kind}, not tmpfs"
    if mount.read_only != wanted.read_only:
        yield f"{mount.point} is {'read-only' if mount.read_only else 'writable'}"
    if want.runtime == "runc" and (missing := wanted.flags - mount.options):
        yield f"{mount.point} lacks {', '.join(sorted(missing))}"


def _of_the_engine(want: Expected, mount: Mount) -> Iterator[str]:
    if mount.point in ENGINES_OWN:
        if mount.kind != ENGINES_OWN[mount.point] and want.runtime == "runc":
            yield f"{mount.point} is {mount.kind}, not {ENGINES_OWN[mount.point]}"
        if mount.point == "/sys" and not mount.read_only:
            yield "/sys is writable"
        if mount.point == "/dev" and "nosuid" not in mount.options and want.runtime == "runc":
            yield "/dev lacks nosuid"
    elif mount.point in ENGINES_FILES:
        if not mount.read_only and not want.writable_root:
            yield f"{mount.point} is writable"
    elif mount.point == "/sys/fs/cgroup" or mount.point.startswith("/sys/fs/cgroup/"):
        # Over cgroups of version 1 lies an empty tmpfs of root's; that it cannot be written is tried.
        # gVisor's groups are of its own making, and hold only its own processes.
        loose = mount.kind != "tmpfs" and not mount.read_only and want.runtime == "runc"
        if loose or mount.kind not in ("cgroup", "cgroup2", "tmpfs"):
            yield f"{mount.point} is a writable {mount.kind}"
    elif mount.point in HELD:
        if not mount.read_only:
            yield f"{mount.point} is writable"
    elif mount.point in MASKED:
        if mount.root != "/null" and not (mount.kind == "tmpfs" and mount.read_only):
            yield f"{mount.point} is not masked"
    else:
        yield f"something is mounted on {mount.point} ({mount.kind} {mount.root})"


def network(want: Expected, found: Answers) -> Iterator[str]:
    devices = network_devices(found[f"r {NETWORK}"].text)
    if devices != {"lo"}:
        yield f"network devices: {' '.join(sorted(devices)) or 'not told'}"


def masked(want: Expected, found: Answers) -> Iterator[str]:
    for path in ALWAYS_MASKED if want.runtime == "runc" else ():
        answer = found[f"s {path}"]
        if answer.error == ENOENT:
            continue  # this kernel has no such thing
        if answer.error:
            yield f"{path} cannot be looked at (errno {answer.error})"
            continue
        here = place(answer)
        if stat.S_ISCHR(here.mode):
            if here.device != NULL:
                yield f"{path} is masked by device {here.device[0]}:{here.device[1]}, not by the null device"
        elif not (stat.S_ISDIR(here.mode) and here.read_only and not found[f"l {path}"].data):
            yield f"{path} is not masked"


def held(want: Expected, found: Answers) -> Iterator[str]:
    for path in HELD if want.runtime == "runc" else ():
        answer = found[f"s {path}"]
        if answer.error != ENOENT and (answer.error or not place(answer).read_only):
            yield f"{path} is not read-only"
    for path in SWITCHES if want.runtime == "runc" or want.uid else ():
        if found[f"w {path}"].error == 0:
            yield f"{path} can be opened for writing"


def root(want: Expected, found: Answers) -> Iterator[str]:
    own = UNWRITABLE if not want.writable_root else ("/sys", "/sys/fs/cgroup")
    for path in own:
        # Root's own /dev is a memory file system of 64 MB: it may fill that, and nothing reads it.
        if found[f"c {path.rstrip('/')}/{CANARY}"].error == 0 and not (want.uid == 0 and path in _ROOTS):
            yield f"a file can be made in {path}"


_ROOTS = ("/dev", "/sys/fs/cgroup")


def places(want: Expected, found: Answers) -> Iterator[str]:
    for point, mount in want.mounts.items():
        if mount.size is None:
            continue
        here = place(found[f"s {point}"])
        inodes = mount.inodes if want.runtime == "runc" else here.inodes  # gVisor counts none
        if here.size != mount.size or here.inodes != inodes:
            yield (
                f"{point} holds {here.size} bytes and {here.inodes} files, "
                f"not {mount.size} and {mount.inodes}"
            )


def devices(want: Expected, found: Answers) -> Iterator[str]:
    listed = found["l /dev"]
    if listed.error:
        yield f"/dev cannot be listed (errno {listed.error})"
    for name, (mode, device) in entries(listed).items():
        if want.runtime == "runsc" and (name, device) in GVISORS_OWN:
            continue
        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            if DEVICES.get(name) != device or stat.S_ISBLK(mode):
                yield f"a device /dev/{name} ({device[0]}:{device[1]})"
        elif name not in NO_DEVICES:
            yield f"something else in /dev: {name}"


def kernel(want: Expected, found: Answers) -> Iterator[str]:
    words = found["r /proc/version"].text.split()
    release = words[2] if len(words) > 2 else "not told"
    if want.runtime == "runc" and release != want.kernel:
        yield f"the kernel is {release}, not {want.kernel}"
    if want.runtime == "runsc" and release == want.kernel:
        yield f"the host's own kernel answers ({release}), not gVisor"
    if found[_statx(want)].error == EINVAL:
        yield "statx refuses the flags that ls and stat pass, so this kernel (an old gVisor?) cannot run them"


def _statx(want: Expected) -> str:
    """Without a path, which a kernel that knows AT_NO_AUTOMOUNT complains of next: EFAULT."""
    return f"t {numbers(want.machine)['statx']} -100 0 {AT_NO_AUTOMOUNT:#x} 0 0 0"


def namespaces(want: Expected, found: Answers) -> Iterator[str]:
    for kind, host in want.host_namespaces.items() if want.runtime == "runc" else ():
        own = found[f"k /proc/self/ns/{kind}"]
        if own.error or own.text == host:
            yield f"the {kind} namespace is the host's" if not own.error else f"no {kind} namespace is told"


def limits(want: Expected, found: Answers) -> Iterator[str]:
    rows = {
        line[:26].strip(): line[26:].split()[:2] for line in found["r /proc/self/limits"].text.splitlines()
    }
    for name, number in (("Max core file size", 0), ("Max open files", want.open_files)):
        if rows.get(name) != [str(number)] * 2:
            yield f"{name} is {' '.join(rows.get(name, ['not told']))}, not {number}"
    if want.runtime != "runc":  # they hold gVisor's process from outside, and cannot be seen inside
        return
    yield from _limit("memory", MEMORY, {str(want.memory_bytes)}, found)
    # Swap is beside the memory in one version and within it in the other; a kernel without has no file.
    yield from _limit("swap", SWAP, {"0", str(want.memory_bytes)}, found, needed=False)
    yield from _limit("pids", PIDS, {str(want.pids)}, found)
    yield from _limit("cpu quota", CPU, {str(want.cpu_quota_us)}, found)


def _limit(
    name: str, paths: tuple[str, ...], values: set[str], found: Answers, *, needed: bool = True
) -> Iterator[str]:
    told = [found[f"r {path}"].text.split()[:1] for path in paths if found[f"r {path}"].error == 0]
    if not told:
        if needed:
            yield f"no limit of {name} can be read"
    elif not told[0] or told[0][0] not in values:
        yield f"the limit of {name} is {' '.join(told[0])}, not {' or '.join(sorted(values))}"


def processes(want: Expected, found: Answers) -> Iterator[str]:
    # On gVisor whoever is root inside can open it; see docs/threat-model.md.
    linked = want.runtime == "runc" and found["k /proc/1/fd/0"].error == 0
    opened = found["w /proc/1/fd/1"].error == 0 and not (want.runtime == "runsc" and want.uid == 0)
    if linked or opened:
        yield "the wire of PID 1 can be had"


def system_calls(want: Expected, found: Answers) -> Iterator[str]:
    for attempt in attempts(want.seccomp, want.machine):
        outcome = found[attempt.question].error
        if outcome not in attempt.refusals:
            yield f"{attempt.name} is not refused ({_outcome(outcome)})"


def _outcome(error: int) -> str:
    if error == 0:
        return "it succeeded"
    return f"signal {error - ENDED_BY}" if error > ENDED_BY else f"errno {error}"


def _hex(words: Sequence[str]) -> int | None:
    try:
        return int("".join(words), 16)
    except ValueError:
        return None


ALWAYS: tuple[Subject, ...] = (identity, privileges, mount_table, network)
"""Measured in every container: three reads over the wire, without a process."""
ONCE: tuple[Subject, ...] = (
    *(masked, held, root, places, devices, kernel, namespaces, limits, processes, system_calls),
)
"""Measured once for an image, a policy, an engine and a kernel: by the probe, inside."""


def questions(want: Expected) -> list[str]:
    """All that the subjects of ONCE ask."""
    asked = [f"s {path}" for path in (*ALWAYS_MASKED, *HELD)]
    asked += [f"l {path}" for path in (*ALWAYS_MASKED, "/dev")]
    asked += [f"w {path}" for path in SWITCHES]
    asked += [f"c {path.rstrip('/')}/{CANARY}" for path in UNWRITABLE]
    asked += [f"s {point}" for point, mount in want.mounts.items() if mount.size is not None]
    asked += [
        "k /proc/1/fd/0",
        "w /proc/1/fd/1",
        *(f"k /proc/self/ns/{kind}" for kind in want.host_namespaces),
    ]
    asked += [f"r {path}" for path in ("/proc/version", "/proc/self/limits", *MEMORY, *SWAP, *PIDS, *CPU)]
    asked += [f"r {path}" for path in (STATUS, MOUNTS, NETWORK)]
    asked.append(_statx(want))
    asked += [attempt.question for attempt in attempts(want.seccomp, want.machine)]
    return list(dict.fromkeys(asked))


def differences(want: Expected, found: Answers, subjects: tuple[Subject, ...] = ALWAYS + ONCE) -> list[str]:
    """One sentence for each thing that is not as configured; none means it is exactly so."""
    said: list[str] = []
    for subject in subjects:
        try:
            said.extend(subject(want, found))
        except (KeyError, ValueError, IndexError) as error:
            said.append(f"{subject.__name__.replace('_', ' ')} could not be measured: {error}")
    return said
