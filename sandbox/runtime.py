"""The runtime (OCI runtime): what starts a session's container, and whether it keeps what it has to.

`runc` shares the host's kernel. `runsc` is gVisor: a kernel of the session's own, in a process of the host.
An engine knows a runtime by a name, a path and arguments, and all three are looked at before anything is
created: a gVisor that is missing, too old, or told to be less than a sandbox is refused by name.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from shutil import which
from typing import Any, Literal

from policies import Policy
from sandbox.engine import Engine
from sandbox.errors import SandboxRefused

Runtime = Literal["runc", "runsc"]

OLDEST_GVISOR = 20240729
"""The oldest build that keeps the whole contract. One of 2022 fails `ls` and `stat`, and loses jobs."""

GVISOR_FILES = 1024
"""Descriptors that gVisor itself needs of `limits.open_files`; with few it does not even start."""

VERSION_S = 10.0
SEARCHED = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""For a runtime that the engine names without its directory."""

INSTALL = "`make engine GVISOR=1` installs one that does, on Debian as root; elsewhere see docs/gvisor.md"
_DATE = re.compile(r"\b(20\d{6})(?:\.\d+)?\b", re.ASCII)

_WIDENING: Mapping[str, frozenset[str]] = {
    "network": frozenset({"host"}),
    "platform": frozenset({"kvm"}),
    "host-uds": frozenset({"open", "create", "all"}),
    "fsgofer-host-uds": frozenset({"true"}),
    "host-fifo": frozenset({"open"}),
    "allow-flag-override": frozenset({"true"}),
    "profile": frozenset({"true"}),
    "TESTONLY-unsafe-nonroot": frozenset({"true"}),
    "nvproxy": frozenset({"true"}),
    "tpuproxy": frozenset({"true"}),
}
"""Arguments that hand the guest more of the host than a session may have. On kvm sessions hang."""


@dataclass(frozen=True)
class GVisor:
    """What an engine is told of gVisor."""

    path: str
    arguments: Mapping[str, str]
    """By name without dashes; a switch is `true`."""
    version: int | None
    """The date of the build, like 20240729; None where it cannot be asked or gives none."""

    @property
    def platform(self) -> str:
        """How it takes the guest's system calls."""
        return self.arguments.get("platform", "systrap")

    @property
    def shown(self) -> str:
        return f"{self.version or 'of unknown age'}, platform {self.platform}"

    @property
    def fault(self) -> str | None:
        """Why no session may run under it, in half a sentence; None where one may."""
        if self.version is not None and self.version < OLDEST_GVISOR:
            return f"it is of {self.version}, and before {OLDEST_GVISOR} it cannot run even ls or stat"
        if self.arguments.get("oci-seccomp") != "true":
            return "it is set up without --oci-seccomp, so a session's system call filter would not hold"
        for name, values in _WIDENING.items():
            if self.arguments.get(name) in values:
                return f"it is set up with --{name}={self.arguments[name]}, under which no session may run"
        return None


async def usable(engine: Engine, asked: Runtime | None, policy: Policy) -> Runtime:
    """The runtime of a session: the one asked for, else the policy's. SandboxRefused where it will not do."""
    container = policy.container
    runtime = asked or container.runtime
    if container.require_runtime is not None and runtime != container.require_runtime:
        raise SandboxRefused(
            f"the policy requires the runtime {container.require_runtime}, and this session would have "
            f"{runtime}: say --runtime {container.require_runtime}, or set container.runtime"
        )
    if runtime == "runsc":
        found = await gvisor(await engine.info())
        if found is None:
            raise SandboxRefused(f"this engine has no runtime runsc (gVisor): {INSTALL}")
        if found.fault is not None:
            raise SandboxRefused(
                f"the engine's runsc (gVisor, {found.path}) will not do: {found.fault}; {INSTALL}"
            )
        if policy.limits.open_files < GVISOR_FILES:
            raise SandboxRefused(
                f"under runsc (gVisor) limits.open_files is at least {GVISOR_FILES}: gVisor's own count, "
                f"too; the policy says {policy.limits.open_files}"
            )
    return runtime


async def gvisor(info: Mapping[str, Any]) -> GVisor | None:
    """The engine's gVisor by its answer to /info; None where it has none."""
    entry = (info.get("Runtimes") or {}).get("runsc")
    if entry is None:
        return None
    path = str(entry.get("path") or "runsc")
    return GVisor(path, arguments_of(entry.get("runtimeArgs") or ()), await _version(path))


def arguments_of(words: Iterable[str]) -> Mapping[str, str]:
    """`--network=none`, `-oci-seccomp` and `--platform ptrace`, as the program itself reads them."""
    found: dict[str, str] = {}
    waiting: str | None = None
    for word in words:
        if waiting is not None and not word.startswith("-"):
            found[waiting] = word
            waiting = None
        elif word.startswith("-"):
            name, given, value = word.lstrip("-").partition("=")
            found[name] = _plain(value) if given else "true"
            waiting = None if given else name
    return found


def _plain(value: str) -> str:
    return {"1": "true", "t": "true", "T": "true", "TRUE": "true", "True": "true"}.get(value, value)


async def _version(path: str) -> int | None:
    """Asked of the program, as its user; the engine runs on this machine, or no session starts."""
    program = which(path, path=SEARCHED)
    if program is None:
        return None
    try:
        process = await asyncio.create_subprocess_exec(
            program, "--version", env={}, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
    except OSError:
        return None
    try:
        async with asyncio.timeout(VERSION_S):
            said, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return None
    return dated(said.decode("utf-8", "replace"))


def dated(text: str) -> int | None:
    """The build's date by what `runsc --version` says: `release-20240729.0`, in Debian `0.0~20240729.0`."""
    found = _DATE.search(text.partition("\n")[0])
    return int(found[1]) if found else None
