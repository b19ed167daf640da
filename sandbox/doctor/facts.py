"""Looking: what the doctor reads off the engine and this machine before anything is judged."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from sandbox.cache import cache_dir
from sandbox.doctor.advisories import Component, mended_by_distribution
from sandbox.engine import Engine
from sandbox.image.build import NAMES, state
from sandbox.image.initbinary import location
from sandbox.runtime import GVisor, gvisor
from sandbox.workspace.quota import exact_unavailable


@dataclass(frozen=True)
class Facts:
    address: str
    local: bool
    version: Mapping[str, Any]
    """The engine's answer to /version."""
    info: Mapping[str, Any]
    """The engine's answer to /info."""
    mended: Mapping[Component, frozenset[str]] = field(default_factory=dict)
    """CVE numbers that the distribution says it mended in the installed packages."""
    images: Mapping[str, str] = field(default_factory=dict)
    init: bool = False
    gvisor: GVisor | None = None
    no_exact_disk: str | None = None
    """Why a workspace cannot have an exact disk limit; None when it can."""
    free_gb: Mapping[str, float] = field(default_factory=dict)
    """By what is stored there."""


async def gather(engine: Engine) -> Facts:
    version, info = await engine.version(), await engine.info()
    images: dict[str, str] = {name: await state(engine, name) for name in NAMES}
    root = Path(str(info.get("DockerRootDir", "/var/lib/docker")))
    local = engine.is_local
    return Facts(
        address=engine.address.path or f"{engine.address.host}:{engine.address.port}",
        local=local,
        version=version,
        info=info,
        mended=await asyncio.to_thread(_mended) if local else {},
        images=images,
        init=await asyncio.to_thread(lambda: location().exists()),
        gvisor=await gvisor(info) if local else None,
        no_exact_disk=await asyncio.to_thread(exact_unavailable),
        free_gb=await asyncio.to_thread(_free, root if local else None),
    )


def _mended() -> dict[Component, frozenset[str]]:
    return {component: mended_by_distribution(component) for component in get_args(Component)}


def _free(docker_root: Path | None) -> dict[str, float]:
    """Of the nearest existing directory, since the cache may not be there yet."""
    found = {}
    for name, path in (("usermode", cache_dir()), ("containers", docker_root)):
        if path is None:
            continue
        existing = next((one for one in (path, *path.parents) if one.exists()), None)
        if existing is not None:
            found[name] = shutil.disk_usage(existing).free / 1e9
    return found
