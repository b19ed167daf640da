"""Presets: `@pip`, `@npm` and `@apt` of a policy, as the hosts that this machine's own tools are set to use.

The tools are asked, so that mirrors and private indexes count and no registry's name stands in this project.
A tool that is not here, or that names no host, is an error: a preset never means less than it says, silently.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

from policies import Policy
from policies.patterns import PRESETS, canonical_host
from sandbox.errors import SandboxRefused

ASK_S = 20.0
_PORTS = {"http": 80, "https": 443}
_PIP_DEFAULT = """
from pip._internal.models.index import PyPI as index
print(index.simple_url)
print("https://" + index.file_storage_domain)
"""

Ask = Callable[[list[str]], str]
"""Runs a program and returns what it prints; OSError or subprocess.SubprocessError when it cannot."""


@dataclass(frozen=True)
class Preset:
    entries: tuple[str, ...]
    """For `network.allow`, each with its port."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Tells the same tool inside which of them it is to use. Without credentials."""


def ask(argv: list[str]) -> str:
    """The tool's answer. It runs on the host, in the root directory: no project's configuration is read."""
    environment = {**os.environ, "NO_UPDATE_NOTIFIER": "1"}
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=ASK_S, check=True, cwd="/", env=environment
    )
    return done.stdout


async def expand(policy: Policy, ask: Ask = ask) -> tuple[Policy, Mapping[str, str]]:
    """The policy with every preset replaced by hosts, and what the tools inside are told.

    SandboxRefused where a preset cannot be read.
    """
    named = [entry for entry in policy.network.allow if entry.startswith("@")]
    if not named:
        return policy, {}
    found = dict(
        zip(named, await asyncio.gather(*(asyncio.to_thread(read, name, ask) for name in named)), strict=True)
    )
    entries: list[str] = []
    environment: dict[str, str] = {}
    for entry in policy.network.allow:
        entries += found[entry].entries if entry in found else [entry]
    for preset in found.values():
        environment.update(preset.environment)
    network = policy.network.model_copy(update={"allow": tuple(dict.fromkeys(entries))})
    return policy.model_copy(update={"network": network}), environment


def read(name: str, ask: Ask = ask) -> Preset:
    """What one preset stands for on this machine. SandboxRefused when its tool does not say."""
    assert name in PRESETS
    tool = name.removeprefix("@")
    try:
        urls, environment = _READERS[name](ask)
        entries = tuple(dict.fromkeys(entry for url in urls if (entry := _entry(url)) is not None))
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise SandboxRefused(
            f"{name}: this machine's {tool} did not say which hosts it uses ({type(error).__name__}: "
            f"{str(error)[:200]}); name the hosts in network.allow instead"
        ) from error
    if not entries:
        raise SandboxRefused(f"{name}: this machine's {tool} uses no host; name the hosts in network.allow")
    return Preset(entries, environment)


def _pip(ask: Ask) -> tuple[list[str], dict[str, str]]:
    settings = dict(
        line.split("=", 1) for line in ask([sys.executable, "-m", "pip", "config", "list"]).splitlines()
    )
    # `:env:` beats `install`, which beats `global`, as in pip.
    index = _setting(settings, "index-url")
    extra = _setting(settings, "extra-index-url")
    default = ask([sys.executable, "-c", _PIP_DEFAULT]).split()
    environment = {}
    if index:
        environment["PIP_INDEX_URL"] = _bare(index[0])
    remote = [_bare(url) for url in extra if url.startswith(("http://", "https://"))]
    if remote:
        environment["PIP_EXTRA_INDEX_URL"] = " ".join(remote)
    return [*(index or default), *extra], environment


def _setting(settings: Mapping[str, str], name: str) -> list[str]:
    for section in (":env:", "install", "global"):
        if f"{section}.{name}" in settings:
            return settings[f"{section}.{name}"].strip("'\"").replace("\\n", " ").split()
    return []


def _npm(ask: Ask) -> tuple[list[str], dict[str, str]]:
    registry = ask(["npm", "config", "get", "registry"]).strip()
    return [registry], {"NPM_CONFIG_REGISTRY": _bare(registry)}


def _apt(ask: Ask) -> tuple[list[str], dict[str, str]]:
    # The sources inside are the image's own, which were made from this machine's.
    return ask(["apt-get", "indextargets", "--format", "$(SITE)"]).split(), {}


_READERS: Mapping[str, Callable[[Ask], tuple[list[str], dict[str, str]]]] = {
    "@apt": _apt,
    "@npm": _npm,
    "@pip": _pip,
}


def _entry(url: str) -> str | None:
    """`host:port` of a URL; None for one that needs no network. ValueError for any other kind."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        return None
    if parts.scheme not in _PORTS or parts.hostname is None:
        raise ValueError(f"a URL that is neither http nor https: {parts.scheme or 'none'}")
    host = canonical_host(parts.hostname)
    if host is None:
        raise ValueError("a URL without a plain host name")
    port = parts.port or _PORTS[parts.scheme]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _bare(url: str) -> str:
    """Without user and password: those stay on the host."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
