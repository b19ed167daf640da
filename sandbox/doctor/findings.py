"""Judging: what each fact of an engine and its machine means for a session. Pure.

`fail` is only for what keeps sessions from starting.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from sandbox.doctor.advisories import Component, open_holes
from sandbox.doctor.facts import Facts

Status = Literal["ok", "warn", "fail"]
TIGHT_GB = 5
FULL_GB = 0.5
COMPONENTS = {"docker": "Engine", "containerd": "containerd", "runc": "runc"}


@dataclass(frozen=True)
class Finding:
    name: str
    status: Status
    value: str
    meaning: str


def findings(facts: Facts) -> list[Finding]:
    found = [_engine(facts)]
    for component in get_args(Component):
        found += _component(facts, component)
    judges: tuple[Callable[[Facts], Finding], ...] = (
        _kernel, _cgroups, _swap, _seccomp, _lsm, _users, _storage, _disk_limit, _gvisor, _init,
    )  # fmt: skip
    found += [judge(facts) for judge in judges]
    found += [_image(name, condition) for name, condition in facts.images.items()]
    found += [_space(name, free) for name, free in facts.free_gb.items()]
    return found


def _engine(facts: Facts) -> Finding:
    version, api = facts.version.get("Version", "?"), facts.version.get("ApiVersion", "?")
    value = f"Docker {version}, API {api}, at {facts.address}"
    if not facts.local:
        return Finding(
            "engine",
            "fail",
            value,
            "Sessions need an engine that sees this machine's files; unset DOCKER_HOST.",
        )
    return Finding(
        "engine", "ok", value, "It answers. Whoever may talk to it is root on its machine; a session may not."
    )


def _component(facts: Facts, component: Component) -> list[Finding]:
    parts = {part.get("Name"): part for part in facts.version.get("Components") or ()}
    part = parts.get(COMPONENTS[component])
    if part is None:
        return []
    version = str(part.get("Version", ""))
    package = str((part.get("Details") or {}).get("GitCommit", ""))
    value = f"{version} ({package})" if package and component != "docker" else version
    holes = open_holes(component, version, facts.mended.get(component, ()))
    if not holes:
        return [Finding(component, "ok", value, "No hole is known to usermode in this version.")]
    listed = "; ".join(f"{hole.id}: {hole.meaning}" for hole in holes)
    backport = " Its distribution may have mended it without a new number." if "+" in version else ""
    return [Finding(component, "warn", value, f"Known holes, mended upstream: {listed}.{backport}")]


def _kernel(facts: Facts) -> Finding:
    value = str(facts.info.get("KernelVersion", "unknown"))
    return Finding(
        "kernel",
        "ok",
        value,
        "Shared with every container: a hole in it is a hole in the sandbox. gVisor narrows it.",
    )


def _cgroups(facts: Facts) -> Finding:
    value = f"version {facts.info.get('CgroupVersion', '?')}, driver {facts.info.get('CgroupDriver', '?')}"
    wanted = {"MemoryLimit": "memory", "PidsLimit": "processes", "CpuCfsQuota": "CPU"}
    lacking = [what for key, what in wanted.items() if not facts.info.get(key)]
    if lacking:
        return Finding(
            "cgroups",
            "fail",
            value,
            f"The engine cannot limit {', '.join(lacking)}, and a session needs it to.",
        )
    return Finding(
        "cgroups", "ok", value, "Memory, processes and CPU of a session are limited by the kernel."
    )


def _swap(facts: Facts) -> Finding:
    if facts.info.get("SwapLimit"):
        return Finding("swap", "ok", "limited", "A session's memory limit cannot be escaped into swap.")
    return Finding(
        "swap",
        "warn",
        "not limited",
        "A session can take swap beside its memory. Boot with swapaccount=1, or have no swap.",
    )


def _options(facts: Facts) -> set[str]:
    """`name=seccomp,profile=default` is `seccomp`."""
    named = (str(option).split(",")[0] for option in facts.info.get("SecurityOptions") or ())
    return {option.removeprefix("name=") for option in named}


def _seccomp(facts: Facts) -> Finding:
    if "seccomp" in _options(facts):
        return Finding(
            "seccomp", "ok", "supported", "Each session has our own default-deny system call filter."
        )
    return Finding(
        "seccomp",
        "fail",
        "not supported",
        "The kernel or the engine cannot filter system calls; no session starts.",
    )


def _lsm(facts: Facts) -> Finding:
    present = sorted({"apparmor", "selinux"} & _options(facts))
    if present:
        return Finding(
            "LSM", "ok", ", ".join(present), "The engine's own profile stands behind ours as a second line."
        )
    return Finding(
        "LSM",
        "warn",
        "none",
        "Neither AppArmor nor SELinux confines containers here: there is no second line behind the filter, "
        "the missing capabilities and the read-only root.",
    )


def _users(facts: Facts) -> Finding:
    options = _options(facts)
    if "rootless" in options:
        return Finding(
            "users",
            "ok",
            "rootless engine",
            "Even an escape from a container is only the user the engine runs as.",
        )
    if "userns" in options:
        return Finding("users", "ok", "remapped", "Root inside a container is nobody outside.")
    return Finding(
        "users",
        "ok",
        "not remapped",
        "A uid inside is the same uid outside. Sessions run as you, or as 1000 if you are root: an escape "
        "would arrive as that user, without capabilities.",
    )


def _storage(facts: Facts) -> Finding:
    driver = str(facts.info.get("Driver", "unknown"))
    if driver == "vfs":
        return Finding(
            "storage",
            "warn",
            driver,
            "Every container is a full copy of its image: slow, and the disk fills.",
        )
    return Finding(
        "storage", "ok", driver, "Images are shared between containers; a session's root is read-only."
    )


def _disk_limit(facts: Facts) -> Finding:
    if facts.no_exact_disk is None:
        return Finding(
            "disk limit",
            "ok",
            "exact",
            "A workspace is a file system of its limit's size; the host's disk is safe.",
        )
    return Finding(
        "disk limit",
        "warn",
        "watched",
        "A workspace's commands are stopped when it outgrows its limit, so it can overshoot for a moment. "
        f"An exact limit cannot be had: {facts.no_exact_disk}.",
    )


def _gvisor(facts: Facts) -> Finding:
    found = facts.gvisor
    if found is None:
        return Finding(
            "gVisor",
            "ok",
            "not installed",
            "A policy that wants runsc is refused; others are not affected. `make engine GVISOR=1` has it.",
        )
    if found.fault is not None:
        return Finding(
            "gVisor",
            "warn",
            found.shown,
            f"No session may run under it: {found.fault}. `make engine GVISOR=1` mends it.",
        )
    return Finding(
        "gVisor",
        "ok",
        found.shown,
        "Under --runtime runsc a session has a kernel of its own, in a process of the host, and our filter "
        "inside that; commands start slower.",
    )


def _init(facts: Facts) -> Finding:
    if facts.init:
        return Finding("init", "ok", "built", "PID 1 of every session is ready.")
    return Finding(
        "init", "warn", "not built", "The first session builds it in the dev image, in a few seconds."
    )


def _image(name: str, condition: str) -> Finding:
    meanings = {
        "current": "Made from the recipe of this version.",
        "outdated": "Made from another recipe; `usermode image build` makes it again.",
        "missing": "`usermode image build` makes it, in a minute or two.",
    }
    return Finding(
        f"image usermode/{name}", "ok" if condition == "current" else "warn", condition, meanings[condition]
    )


def _space(name: str, free: float) -> Finding:
    status: Status = "fail" if free < FULL_GB else "warn" if free < TIGHT_GB else "ok"
    meanings = {
        "ok": "Room for images and for copies of workspaces.",
        "warn": "Little room: a workspace's copy or an image may not fit.",
        "fail": "No room: sessions would stop in the middle. `usermode gc` removes what no session needs.",
    }
    return Finding(f"free disk for {name}", status, f"{free:.1f} GB", meanings[status])
