"""What a container must be found to be: from the policy, and from the request it was created with."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from policies import Policy
from policies.filters import seccomp_profile
from sandbox.errors import SandboxRefused
from sandbox.hardening import CPU_PERIOD_US, mask_of

NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "uts")


@dataclass(frozen=True)
class ExpectedMount:
    kind: Literal["tmpfs", "other"]
    read_only: bool
    flags: frozenset[str] = frozenset()
    """That must be there."""
    size: int | None = None
    inodes: int | None = None


@dataclass(frozen=True)
class Expected:
    runtime: str
    kernel: str
    """The host's release; `runsc` must show another."""
    machine: str
    host_namespaces: Mapping[str, str]
    """Kind to the identity that the container's own must differ from."""
    uid: int
    gid: int
    capabilities: int
    """That a process may ever have, as the kernel's bits."""
    writable_root: bool
    seccomp: str
    """The profile's JSON text."""
    mounts: Mapping[str, ExpectedMount]
    """Configured ones by where they are; the engine's own are known."""
    memory_bytes: int
    pids: int
    cpu_quota_us: int
    open_files: int


def expected(policy: Policy, config: Mapping[str, Any], runtime: str) -> Expected:
    uid, gid = _user(policy, config)
    limits = policy.limits
    return Expected(
        runtime=runtime,
        kernel=os.uname().release,
        machine=os.uname().machine,
        host_namespaces=_host_namespaces(),
        uid=uid,
        gid=gid,
        capabilities=mask_of(policy.container.capabilities),
        writable_root=policy.container.writable_root,
        seccomp=seccomp_profile(policy.container.seccomp),
        mounts=_mounts(config["HostConfig"]),
        memory_bytes=limits.memory_mb << 20,
        pids=limits.pids,
        cpu_quota_us=max(1000, round(limits.cpus * CPU_PERIOD_US)),
        open_files=limits.open_files,
    )


def _user(policy: Policy, config: Mapping[str, Any]) -> tuple[int, int]:
    """Whom commands run as: the container's user, or whom init becomes first (`as UID GID MASK`)."""
    words = config.get("Cmd") or []
    if words[:1] == ["as"]:
        uid, gid = int(words[1]), int(words[2])
    else:
        uid, gid = (int(part) for part in str(config["User"]).split(":"))
    if (uid == 0) != (policy.container.user == "root"):
        raise SandboxRefused(f"commands would run as uid {uid}, and the policy says {policy.container.user}")
    return uid, gid


def _mounts(host: Mapping[str, Any]) -> dict[str, ExpectedMount]:
    found = {}
    for point, options in (host.get("Tmpfs") or {}).items():
        words = options.split(",")
        named = dict(word.partition("=")[::2] for word in words)
        found[point] = ExpectedMount(
            "tmpfs",
            read_only="ro" in words,
            flags=frozenset(words) & {"nosuid", "nodev", "noexec"},
            size=int(named["size"].removesuffix("m")) << 20,
            inodes=int(named["nr_inodes"]),
        )
    for mount in host.get("Mounts") or ():
        found[mount["Target"]] = ExpectedMount("other", read_only=bool(mount.get("ReadOnly")))
    return found


def _host_namespaces() -> dict[str, str]:
    """Ours. The engine is on this machine, so a container's must be others."""
    found = {}
    for kind in NAMESPACES:
        try:
            found[kind] = str((Path("/proc/self/ns") / kind).readlink())
        except OSError:  # a kernel without this kind has nothing to share
            continue
    return found
