"""Hardening (container configuration): what a session's container may not do, in one pure function.

`container_config` turns a policy into the JSON of the engine's create request. It can only spell contained
configurations: no network, no capability the policy does not name, no host namespace, no device, no socket.
Golden files in the tests hold every byte of it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from policies import Policy
from policies.schema import Capability, Limits
from sandbox.errors import SandboxRefused

INIT = "/.usermode/init"
HOME = "/home/sandbox"
WORKSPACE = "/workspace"
NOBODY_ELSE = 1000
"""Uid and gid inside, when the caller is root and so has none of its own to give."""
CPU_PERIOD_US = 100_000
NUMBERS: Mapping[Capability, int] = {
    "CHOWN": 0, "DAC_OVERRIDE": 1, "FOWNER": 3, "SETGID": 6, "SETUID": 7, "NET_BIND_SERVICE": 10,
}  # fmt: skip
"""From linux/capability.h."""
KEEPERS = ("SETUID", "SETGID", "SETPCAP", "KILL")
"""To become another user, to give capabilities away for good, and to end a root command."""
OOM_SCORE = 500
"""The host under memory pressure ends a sandbox before its own services."""

ENVIRONMENT: Mapping[str, str] = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": HOME,
    "LANG": "C.UTF-8",
    "TERM": "dumb",
    # Compiled Python beside its source would fill every review, and could run in the source's place later.
    "PYTHONPYCACHEPREFIX": f"{HOME}/.cache/python",
}
"""What every command starts with. Values of the host never join it here: `docker inspect` shows them."""


@dataclass(frozen=True)
class ContainerSpec:
    policy: Policy
    image_id: str
    image_config: Mapping[str, Any]
    """The image's own defaults (`ImageFacts.config`): every one of them is overridden or refused."""
    runtime: Literal["runc", "runsc"]
    uid: int
    gid: int
    init_path: Path
    """Of the init binary on the host, with the file `hosts` beside it; both are mounted read-only."""
    workspace: Path | None
    """A directory of the host that is the session's own copy; without one, /workspace is memory."""
    seccomp: str
    """The profile's JSON text."""
    labels: Mapping[str, str]


def sandbox_user() -> tuple[int, int]:
    """The caller's own uid and gid, so that files come out with the right owner; never root's."""
    uid, gid = os.getuid(), os.getgid()
    return (uid, gid or NOBODY_ELSE) if uid else (NOBODY_ELSE, NOBODY_ELSE)


def container_config(spec: ContainerSpec) -> dict[str, Any]:
    """The body of the create request. SandboxRefused where the image asks for what cannot be contained."""
    _refuse_volumes(spec.image_config)
    uid, gid = (0, 0) if spec.policy.container.user == "root" else (spec.uid, spec.gid)
    return {
        "Image": spec.image_id,
        "User": "0:0" if _begins_as_root(spec) else f"{uid}:{gid}",
        "Hostname": "sandbox",
        "WorkingDir": "/",
        "Entrypoint": [INIT],
        "Cmd": _letting_go(spec, uid, gid),
        "Env": _environment(spec.image_config),
        "Labels": dict(spec.labels),
        "Healthcheck": {"Test": ["NONE"]},
        # A network namespace with nothing but lo. `none` alone says the same, but the engine then spends
        # longer on the empty network than on all the rest of the start.
        "NetworkDisabled": True,
        "StopSignal": "SIGKILL",
        "StopTimeout": 0,
        # A terminal on PID 1 would let the guest type into the wire.
        "Tty": False,
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "OpenStdin": True,
        # True would close the wire for good when the harness lets go of it once.
        "StdinOnce": False,
        "HostConfig": {**_isolation(spec), **_limits(spec.policy.limits), **_mounts(spec, uid, gid)},
    }


def _begins_as_root(spec: ContainerSpec) -> bool:
    """Whether root commands may need capabilities that the sandbox user has not. An engine gives a program
    beside the first none that the first was not started with."""
    container = spec.policy.container
    root_commands = bool(container.capabilities) and "root" in spec.policy.sudo.may_ask
    # gVisor lets every process open the descriptors of every other one, whoever may trace whom. The wire is a
    # FIFO of the user that the container starts as, so that must be somebody else than the guest.
    return container.user == "sandbox" and (root_commands or spec.runtime == "runsc")


def _letting_go(spec: ContainerSpec, uid: int, gid: int) -> list[str]:
    """Init's words: to become the sandbox user before it does anything else."""
    if not _begins_as_root(spec):
        return []
    words = ["as", str(uid), str(gid), f"{mask_of(spec.policy.container.capabilities):x}"]
    # Elsewhere the kernel itself keeps PID 1 from being signalled.
    return [*words, "apart"] if spec.runtime == "runsc" else words


def mask_of(capabilities: tuple[Capability, ...]) -> int:
    return sum(1 << NUMBERS[name] for name in set(capabilities))


def _isolation(spec: ContainerSpec) -> dict[str, Any]:
    container = spec.policy.container
    return {
        "Runtime": spec.runtime,
        "Privileged": False,
        "CapDrop": ["ALL"],
        "CapAdd": sorted({*container.capabilities, *(KEEPERS if _begins_as_root(spec) else ())}),
        "SecurityOpt": ["no-new-privileges", f"seccomp={spec.seccomp}"],
        "ReadonlyRootfs": not container.writable_root,
        "NetworkMode": "none",
        "IpcMode": "private",
        "CgroupnsMode": "private",
        # The engine's log would keep every byte of the wire on the host's disk.
        "LogConfig": {"Type": "none", "Config": {}},
        "RestartPolicy": {"Name": "no"},
        "AutoRemove": True,
        "Init": False,
    }


def resources(limits: Limits) -> dict[str, int]:
    """What the engine can also change while a container runs."""
    memory = limits.memory_mb << 20
    return {
        "Memory": memory,
        # The same number twice: no swap.
        "MemorySwap": memory,
        "PidsLimit": limits.pids,
        # A quota, since the engine refuses a number of CPUs larger than the machine has.
        "CpuPeriod": CPU_PERIOD_US,
        "CpuQuota": max(1000, round(limits.cpus * CPU_PERIOD_US)),
    }


def _limits(limits: Limits) -> dict[str, Any]:
    return {
        **resources(limits),
        "OomScoreAdj": OOM_SCORE,
        "Ulimits": [
            {"Name": "core", "Soft": 0, "Hard": 0},
            {"Name": "nofile", "Soft": limits.open_files, "Hard": limits.open_files},
        ],
    }


def _mounts(spec: ContainerSpec, uid: int, gid: int) -> dict[str, Any]:
    limits = spec.policy.limits
    # Owned by whom they are for: where the image has such a directory, the runtime gives the mount its mode.
    shared = f"mode=1777,uid={uid},gid={gid}"
    tmpfs = {
        "/tmp": _tmpfs(limits.tmp_mb, limits.tmp_inodes, shared),
        "/dev/shm": _tmpfs(limits.shm_mb, limits.tmp_inodes, shared, "noexec"),
        HOME: _tmpfs(limits.tmp_mb, limits.tmp_inodes, f"mode=0700,uid={uid},gid={gid}"),
    }
    mounts = [
        _bind(spec.init_path, INIT, read_only=True),
        # Without a network the engine writes no hosts file, and localhost must have an address.
        _bind(spec.init_path.with_name("hosts"), "/etc/hosts", read_only=True),
    ]
    if spec.workspace is None:
        owned = f"mode=0755,uid={uid},gid={gid}"
        tmpfs[WORKSPACE] = _tmpfs(limits.workspace_mb, limits.workspace_inodes, owned)
    else:
        mounts.append(_bind(spec.workspace, WORKSPACE, read_only=False))
    return {"Tmpfs": tmpfs, "Mounts": mounts}


def _tmpfs(size_mb: int, inodes: int, owner: str, execute: str = "exec") -> str:
    return f"rw,nosuid,nodev,{execute},size={size_mb}m,nr_inodes={inodes},{owner}"


def _bind(source: Path, target: str, *, read_only: bool) -> dict[str, Any]:
    """One directory or file alone: what the host mounts below it, now or later, does not come along.

    The engine offers no nosuid or nodev for a bind. Neither is missed: no-new-privileges takes the effect
    from a setuid bit, and no policy can give the capability to make a device.
    """
    return {
        "Type": "bind",
        "Source": str(source),
        "Target": target,
        "ReadOnly": read_only,
        "BindOptions": {"Propagation": "rprivate", "NonRecursive": True},
    }


def _environment(image: Mapping[str, Any]) -> list[str]:
    """Ours, and the name alone of every other variable of the image, by which the engine removes it."""
    ours = [f"{name}={value}" for name, value in ENVIRONMENT.items()]
    theirs = {str(entry).partition("=")[0] for entry in image.get("Env") or ()}
    return ours + sorted(theirs - set(ENVIRONMENT) - {""})


def _refuse_volumes(image: Mapping[str, Any]) -> None:
    """A declared volume would be a writable directory on the host's disk without any limit."""
    covered = {"/tmp", HOME, WORKSPACE}
    loose = sorted(path for path in image.get("Volumes") or () if path.rstrip("/") not in covered)
    if loose:
        raise SandboxRefused(
            f"the image declares the volume {loose[0]}, which no limit would hold; rebuild it without VOLUME"
        )
