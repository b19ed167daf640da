"""The mount table: every mount is configured, or known to be the engine's own, and has its flags."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from sandbox.hardening import WORKSPACE
from sandbox.posture import known
from sandbox.posture.expected import Expected
from sandbox.posture.facts import MOUNTS, Answer, Mount, mounts


def mount_table(want: Expected, found: Mapping[str, Answer]) -> Iterator[str]:
    table = mounts(found[f"r {MOUNTS}"].text)
    seen = Counter(mount.point for mount in table)
    yield from (f"two mounts on {point}" for point in sorted(seen) if seen[point] > 1)
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
    return point in known.OURS or point.startswith(f"{WORKSPACE}/")


def _configured(want: Expected, mount: Mount) -> Iterator[str]:
    wanted = want.mounts[mount.point]
    if wanted.kind == "tmpfs" and mount.kind != "tmpfs":
        yield f"{mount.point} is {mount.kind}, not tmpfs"
    if mount.read_only != wanted.read_only:
        yield f"{mount.point} is {'read-only' if mount.read_only else 'writable'}"
    if want.runtime == "runc" and (missing := wanted.flags - mount.options):
        yield f"{mount.point} lacks {', '.join(sorted(missing))}"


def _of_the_engine(want: Expected, mount: Mount) -> Iterator[str]:
    if mount.point in known.ENGINES_OWN:
        if mount.kind != known.ENGINES_OWN[mount.point] and want.runtime == "runc":
            yield f"{mount.point} is {mount.kind}, not {known.ENGINES_OWN[mount.point]}"
        if mount.point == "/sys" and not mount.read_only:
            yield "/sys is writable"
        if mount.point == "/dev" and "nosuid" not in mount.options and want.runtime == "runc":
            yield "/dev lacks nosuid"
    elif mount.point in known.ENGINES_FILES:
        if not mount.read_only and not want.writable_root:
            yield f"{mount.point} is writable"
    elif mount.point == "/sys/fs/cgroup" or mount.point.startswith("/sys/fs/cgroup/"):
        # Over cgroups of version 1 lies an empty tmpfs of root's; that it cannot be written is tried.
        # gVisor's groups are of its own making, and hold only its own processes.
        loose = mount.kind != "tmpfs" and not mount.read_only and want.runtime == "runc"
        if loose or mount.kind not in ("cgroup", "cgroup2", "tmpfs"):
            yield f"{mount.point} is a writable {mount.kind}"
    elif mount.point in known.HELD:
        if not mount.read_only:
            yield f"{mount.point} is writable"
    elif mount.point.startswith(("/proc/", "/sys/")):
        # A mask: engines differ in what they mask, and each may do more.
        if mount.root != "/null" and not (mount.kind == "tmpfs" and mount.read_only):
            yield f"{mount.point} is not masked ({mount.kind} {mount.root})"
    else:
        yield f"something is mounted on {mount.point} ({mount.kind} {mount.root})"
