"""Comparing what was measured with what is configured: one function a subject, each yields its differences.

Strict by rule: what is not known to belong there is a difference, and so is a question without an answer.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from errno import EINVAL, ENOENT

from sandbox.posture import known
from sandbox.posture.expected import Expected
from sandbox.posture.facts import (
    MOUNTS,
    NETWORK,
    STATUS,
    Answer,
    entries,
    network_devices,
    place,
    status,
)
from sandbox.posture.mounttable import mount_table
from sandbox.posture.numbers import numbers
from sandbox.posture.sweep import ENDED_BY, attempts

AT_NO_AUTOMOUNT = 0x800
Answers = Mapping[str, Answer]
Subject = Callable[[Expected, Answers], Iterator[str]]


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


def network(want: Expected, found: Answers) -> Iterator[str]:
    devices = network_devices(found[f"r {NETWORK}"].text)
    if devices != {"lo"}:
        yield f"network devices: {' '.join(sorted(devices)) or 'not told'}"


def masked(want: Expected, found: Answers) -> Iterator[str]:
    for path in known.MASKED if want.runtime == "runc" else ():
        answer = found[f"s {path}"]
        if answer.error == ENOENT:
            continue  # this kernel has no such thing
        if answer.error:
            yield f"{path} cannot be looked at (errno {answer.error})"
            continue
        here = place(answer)
        if stat.S_ISCHR(here.mode):
            if here.device != known.NULL:
                yield f"{path} is masked by device {here.device[0]}:{here.device[1]}, not by the null device"
        elif not (stat.S_ISDIR(here.mode) and here.read_only and not found[f"l {path}"].data):
            yield f"{path} is not masked"


def held(want: Expected, found: Answers) -> Iterator[str]:
    for path in known.HELD if want.runtime == "runc" else ():
        answer = found[f"s {path}"]
        if answer.error != ENOENT and (answer.error or not place(answer).read_only):
            yield f"{path} is not read-only"
    for path in known.SWITCHES if want.runtime == "runc" or want.uid else ():
        if found[f"w {path}"].error == 0:
            yield f"{path} can be opened for writing"


def root(want: Expected, found: Answers) -> Iterator[str]:
    own = known.UNWRITABLE if not want.writable_root else ("/sys", "/sys/fs/cgroup")
    for path in own:
        # Root's own /dev is a memory file system of 64 MB: it may fill that, and nothing reads it.
        if found[f"c {path.rstrip('/')}/{known.CANARY}"].error == 0 and not (
            want.uid == 0 and path in known.ROOTS_OWN
        ):
            yield f"a file can be made in {path}"


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
        if want.runtime == "runsc" and (name, device) in known.GVISORS_OWN:
            continue
        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            if known.DEVICES.get(name) != device or stat.S_ISBLK(mode):
                yield f"a device /dev/{name} ({device[0]}:{device[1]})"
        elif name not in known.NO_DEVICES:
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
    if want.runtime == "runc":  # they hold gVisor's process from outside, and cannot be seen inside
        yield from bounds((want.memory_bytes, want.pids, want.cpu_quota_us), found)


def bounds(want: tuple[int, int, int], found: Answers) -> Iterator[str]:
    """Of memory in bytes, processes, and the quota of CPU time in microseconds."""
    memory, pids, quota = (str(number) for number in want)
    yield from _limit("memory", known.MEMORY, {memory}, found)
    # Swap is beside the memory in one version and within it in the other; a kernel without has no file.
    yield from _limit("swap", known.SWAP, {"0", memory}, found, needed=False)
    yield from _limit("pids", known.PIDS, {pids}, found)
    yield from _limit("cpu quota", known.CPU, {quota}, found)


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
"""Measured in every container: one question to init, without a process."""
ONCE: tuple[Subject, ...] = (
    *(masked, held, root, places, devices, kernel, namespaces, limits, processes, system_calls),
)
"""Measured once for an image, a policy, an engine and a kernel: by the probe, inside."""


def questions(want: Expected) -> list[str]:
    """All that the subjects of ONCE ask."""
    asked = [f"s {path}" for path in (*known.MASKED, *known.HELD)]
    asked += [f"l {path}" for path in (*known.MASKED, "/dev")]
    asked += [f"w {path}" for path in known.SWITCHES]
    asked += [f"c {path.rstrip('/')}/{known.CANARY}" for path in known.UNWRITABLE]
    asked += [f"s {point}" for point, mount in want.mounts.items() if mount.size is not None]
    asked += [
        "k /proc/1/fd/0",
        "w /proc/1/fd/1",
        *(f"k /proc/self/ns/{kind}" for kind in want.host_namespaces),
    ]
    asked += [
        f"r {path}"
        for path in (
            "/proc/version",
            "/proc/self/limits",
            *known.MEMORY,
            *known.SWAP,
            *known.PIDS,
            *known.CPU,
        )
    ]
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
