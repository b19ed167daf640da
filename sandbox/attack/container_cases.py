"""Attacks on the container itself: what a process is, what it can write, see and make (A01 to A21, A39)."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path

from sandbox.attack.case import Case, NotApplicable, Program, Target
from sandbox.protocol import Command

PRIVILEGE = Program(
    """
for pid in ("self", *(name for name in os.listdir("/proc") if name.isdigit())):
    try:
        status = dict(line.split(":", 1) for line in open(f"/proc/{pid}/status").read().splitlines())
    except OSError:
        continue
    for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb"):
        held = int(status.get(name, "0"), 16) & ~int(sys.argv[1], 16)
        if held:
            done.append(f"{name} {held:x} of process {pid}")
"""
)

GAINED = Program(
    """
status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines() if ":" in line)
if status.get("NoNewPrivs", "1").strip() != "1":
    done.append("programs may gain privileges")
if status.get("Seccomp", "0").strip() != "2":
    done.append("no system call filter")
"""
)

SETUID = Program(
    """
subprocess.run("cp $(command -v id) /tmp/id && chmod 6755 /tmp/id", shell=True, capture_output=True)
whoever = {"user": 65534, "group": 65534} if os.getuid() == 0 else {}
for argv in (["/tmp/id", "-u"], ["su", "-c", "id -u"], ["sudo", "-n", "id", "-u"], ["newgrp", "root"]):
    try:
        ran = subprocess.run(argv, capture_output=True, stdin=subprocess.DEVNULL, timeout=10, **whoever)
        if ran.stdout.strip() == b"0":
            done.append(" ".join(argv) + " makes root of another user")
    except (OSError, subprocess.SubprocessError):
        pass
tried("mounted over /mnt", succeeds, "mount", "-t", "tmpfs", "none", "/mnt")
"""
)

ROOT_FILES = Program(
    """
own = {"/tmp", "/workspace", "/home/sandbox", "/dev", "/proc", "/sys"}
for where, directories, files in os.walk("/"):
    directories[:] = [name for name in directories if os.path.join(where, name) not in own]
    path = os.path.join(where, ".usermode-canary")
    if where.count("/") < 4 and not where.startswith("/.usermode"):
        try:
            open(path, "w").close()
            os.unlink(path)
            done.append(f"made a file in {where}")
        except OSError:
            pass
for path in ("/etc/passwd", "/usr/bin/env", "/etc/hosts"):
    tried(f"opened {path} for writing", opened, path)
done[3:] = [f"and {len(done) - 3} more"] if len(done) > 4 else done[3:]
"""
)

LOOSE_MOUNTS = Program(
    """
gvisor = os.uname().release == "4.4.0"  # it shows no such flags
for line in open("/proc/self/mountinfo"):
    fields, _, system = line.partition(" - ")
    point, options = fields.split()[4], fields.split()[5].split(",")
    if "rw" not in options or system.split()[2].split(",")[0] == "ro" or fields.split()[3] == "/null":
        continue
    if system.split()[0] in ("proc", "sysfs", "devpts", "mqueue", "cgroup", "cgroup2"):
        continue
    # On a bind there is nothing to set; what the flags are for is held by other means, tried in A03 and A09.
    if not os.access(point, os.W_OK) or gvisor or point in ("/workspace", "/dev"):
        continue
    for flag in ("nosuid", "nodev"):
        if flag not in options:
            done.append(f"{point} is writable without {flag}")
"""
)

SOCKETS = Program(
    """
for where, directories, files in os.walk("/"):
    directories[:] = [name for name in directories if os.path.join(where, name) not in ("/proc", "/sys")]
    for name in files + directories:
        path = os.path.join(where, name)
        try:
            if stat.S_ISSOCK(os.lstat(path).st_mode):
                done.append(f"a socket at {path}")
        except OSError:
            pass
if os.path.exists("/proc/net/unix"):
    lines = open("/proc/net/unix").read().splitlines()[1:]
    done += [line.split()[-1] for line in lines if "/" in line or "@" in line]
for name in ("DOCKER_HOST", "SSH_AUTH_SOCK", "DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR", "DISPLAY",
             "WAYLAND_DISPLAY", "GPG_AGENT_INFO"):
    if os.environ.get(name):
        done.append(f"{name} is set")
"""
)

DEVICES = Program(
    """
for name in ("kmsg", "mem", "port", "kvm", "vda", "sda", "nvme0n1", "console", "loop-control"):
    tried(f"opened /dev/{name}", opened, f"/dev/{name}", os.O_RDONLY)
if os.uname().release != "4.4.0":  # these two are of gVisor's own kernel there
    for name in ("fuse", "net/tun"):
        tried(f"opened /dev/{name}", opened, f"/dev/{name}", os.O_RDWR)
for major, minor in ((259, 0), (8, 0), (254, 0), (1, 1), (1, 11), (10, 232), (10, 229)):
    for kind in (stat.S_IFBLK, stat.S_IFCHR):
        path = f"/tmp/device-{major}-{minor}-{kind}"
        if os.path.lexists(path):
            os.unlink(path)
        try:
            os.mknod(path, kind | 0o666, os.makedev(major, minor))
            # A node of gVisor's is a name in its own kernel. It has to lead somewhere to be anything.
            if os.uname().release != "4.4.0" or (opened(path, os.O_RDONLY), (major, minor) != (10, 229))[1]:
                done.append(f"made device {major}:{minor}")
        except OSError:
            pass
done[:] = sorted(set(done))
"""
)

SWITCHES = Program(
    """
paths = [
    "/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/sys/vm/drop_caches", "/proc/mtrr",
    "/proc/sys/kernel/modprobe", "/proc/sys/fs/binfmt_misc/register", "/sys/kernel/uevent_helper",
    "/sys/power/state", "/proc/acpi/wakeup", "/proc/sys/vm/overcommit_memory", "/proc/kcore", "/proc/1/mem",
]
for path in paths:
    if os.uname().release != "4.4.0" or os.getuid():
        tried(f"opened {path} for writing", opened, path)
"""
)

RELEASE_AGENT = Program(
    """
os.makedirs("/tmp/group", exist_ok=True)
for text in ("mount -t cgroup -o rdma c /tmp/group", "mount -t cgroup2 c /tmp/group", "unshare -UrmC true",
             "unshare -m true", "nsenter -t 1 -m true"):
    tried(text, succeeds, *text.split())
for path in glob.glob("/sys/fs/cgroup/*/release_agent") + glob.glob("/sys/fs/cgroup/release_agent"):
    tried(f"opened {path} for writing", opened, path)
tried("changed the root directory", os.chroot, "/tmp")
"""
)

OWN_LIMITS = Program(
    """
if os.uname().release != "4.4.0":  # gVisor shows groups of its own making
    for name in ("pids/pids.max", "pids.max", "memory/memory.limit_in_bytes", "memory.max", "cpu.max",
                 "devices/devices.allow", "cpu/cpu.cfs_quota_us", "cgroup.procs", "memory/cgroup.procs"):
        tried(f"opened /sys/fs/cgroup/{name} for writing", opened, "/sys/fs/cgroup/" + name)
def score(value):
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write(str(value))
now = int(open("/proc/self/oom_score_adj").read())
if os.uname().release != "4.4.0":
    tried("will outlive the host's services when memory is short", score, -1000)
"""
)

MASKED = Program(
    """
for path in ("/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug", "/proc/kmsg"):
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        if os.read(fd, 100):
            done.append(f"read {path}")
        os.close(fd)
    except OSError:
        pass
for path in ("/proc/acpi", "/proc/scsi", "/sys/firmware"):
    try:
        if os.listdir(path):
            done.append(f"listed {path}")
    except OSError:
        pass
if os.uname().release != "4.4.0":
    tried("read the kernel's log", succeeds, "dmesg")
"""
)

PROCESSES = Program(
    """
mine = {os.getpid(), os.getppid()}
for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
    try:
        name = open(f"/proc/{pid}/comm").read().strip()
    except OSError:
        continue
    if name in ("dockerd", "containerd", "systemd", "kthreadd", "usermode"):
        done.append(f"sees {name}, process {pid}")
for path in ("/proc/1/root/", "/proc/1/cwd/"):
    try:
        if os.listdir(path) and os.stat(path).st_dev != os.stat("/").st_dev:
            done.append(f"listed {path}")
    except OSError:
        pass
for mark in sys.argv[1:]:
    for path in glob.glob("/proc/[0-9]*/cmdline") + glob.glob("/proc/[0-9]*/environ"):
        try:
            if int(path.split("/")[2]) not in mine and mark.encode() in open(path, "rb").read():
                done.append(f"found another session's word in {path}")
        except OSError:
            pass
"""
)

CORES = Program(
    """
if resource.getrlimit(resource.RLIMIT_CORE)[1] != 0:
    done.append("a crash may hand a core to the host's program for them")
else:
    os.chdir("/tmp")
    subprocess.run(["sh", "-c", "ulimit -c unlimited; kill -SEGV $$"], stderr=subprocess.DEVNULL)
    done += glob.glob("/tmp/core*")
"""
)

CONSOLE = Program(
    """
if os.path.lexists("/dev/console"):
    done.append("/dev/console is there")
"""
)

PAGE_CACHE = Program(
    """
import fcntl, mmap
libc = ctypes.CDLL(None, use_errno=True)
path = "/usr/bin/env"
before = open(path, "rb").read()
file = os.open(path, os.O_RDONLY)
def splice():
    reader, writer = os.pipe()
    size = fcntl.fcntl(writer, 1032)
    os.write(writer, b"x" * size)
    os.read(reader, size)
    os.splice(file, writer, 1, offset_src=0)
    os.write(writer, b"OVERWRITTEN")
def memory():
    page = mmap.mmap(file, 4096, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(page))
    with open("/proc/self/mem", "r+b", buffering=0) as own:
        own.seek(start)
        own.write(b"OVERWRITTEN")
for attempt in (splice, memory):
    try:
        attempt()
    except (OSError, AttributeError):
        pass
if open(path, "rb").read() != before:
    done.append(f"{path} of the image is changed for every container")
"""
)


async def privilege(target: Target) -> Sequence[str]:
    """Beyond what the policy gives root; what is configured is not gained."""
    from sandbox.hardening import mask_of

    allowed = mask_of(target.box.policy.container.capabilities) if target.kind == "usermode" else 0
    return await Program(PRIVILEGE.source, (f"{allowed:x}",)).within(target.box)


async def user(target: Target) -> Sequence[str]:
    """Seen from outside: who owns the process on the host."""
    if target.runtime == "runsc":
        raise NotApplicable(
            "gVisor's processes are threads of its own, which the host does not see one by one"
        )
    if target.root and target.kind == "usermode":
        raise NotApplicable(
            "this policy runs commands as root inside; what root may do is the other cases' matter"
        )
    mark = f"usermode-mark-{secrets.token_hex(8)}"
    # The word stands in the environment, which a shell keeps through its whole life.
    call = await target.box.start(
        Command(("sh", "-c", "echo ready; sleep 20; :"), cwd="/tmp", env={"MARK": mark})
    )
    try:
        while not (await target.box.progress(call)).stdout:
            pass
        return sorted({f"process {pid} runs as root on the host" for pid, uid in _owners(mark) if uid == 0})
    finally:
        await target.box.kill(call)


def _owners(mark: str) -> list[tuple[int, int]]:
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                if mark.encode() in (process / "environ").read_bytes():
                    found.append((int(process.name), process.stat().st_uid))
            except OSError:
                continue
    if not found:
        raise NotApplicable("the engine's processes cannot be looked at by this user")
    return found


async def directory(target: Target) -> Sequence[str]:
    """A working directory the model chose must not be a way around anything."""
    reached = []
    for place in ("/proc/1/root", "/proc/1/cwd", "/../../../../", "/proc/self/root/etc"):
        done = await _listing(target, place)
        if done is not None and done not in (await _listing(target, "/"), await _listing(target, "/etc")):
            reached.append(f"stood in {place}, which is not a directory of the container's own")
    return reached


async def _listing(target: Target, place: str) -> bytes | None:
    try:
        return (await target.box.run(Command(("ls", "-ai"), cwd=place))).stdout
    except (OSError, ValueError):
        return None


async def others(target: Target) -> Sequence[str]:
    mark = f"usermode-mark-{secrets.token_hex(8)}"
    async with target.fresh() as other:
        call = await other.start(Command(("sh", "-c", "sleep 20; :"), cwd="/tmp", env={"MARK": mark}))
        try:
            return await Program(PROCESSES.source, (mark,)).within(target.box)
        finally:
            await other.kill(call)


CASES = (
    Case("A01", "capabilities in any process", privilege),
    Case("A02", "gaining privileges; no filter", GAINED),
    Case("A03", "setuid programs, mount, su", SETUID),
    Case("A04", "root on the host", user),
    Case("A05", "writing the image's files", ROOT_FILES),
    Case("A06", "loose flags of writable mounts", LOOSE_MOUNTS),
    Case("A07", "sockets of engines and desktops", SOCKETS),
    Case("A09", "device nodes", DEVICES),
    Case("A10", "core_pattern and other switches", SWITCHES),
    Case("A11", "release_agent, cgroup mounts", RELEASE_AGENT),
    Case("A12", "loosening one's own limits", OWN_LIMITS),
    Case("A14", "masked paths", MASKED),
    Case("A15", "the console", CONSOLE),
    Case("A18", "a directory the model chose", directory),
    Case("A21", "other processes and sessions", others),
    Case("A39", "cores handed to the host", CORES),
    Case("A41", "the page cache of the image", PAGE_CACHE),
)
