"""Postures that were measured before: one small file each, in a directory that only this user may enter.

An entry speaks for one image, policy, container request, engine, kernel and init, all of which it names in
full, and for a day. One that cannot be read, or says anything else, is as good as none.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from policies import Policy
from sandbox.cache import cache_dir

TRUSTED_S = 24 * 3600.0


def key(
    policy: Policy, config: Mapping[str, Any], runtime: str, init: Path, engine: Mapping[str, Any]
) -> str:
    """All that a posture depends on, as JSON. What differs from session to session (names, sources) is left
    out.
    """
    host = dict(config["HostConfig"])
    host["Mounts"] = sorted(
        [str(mount.get(name)) for name in ("Target", "Type", "ReadOnly")]
        for mount in host.get("Mounts") or ()
    )
    request = {**config, "HostConfig": host, "Labels": None}
    return json.dumps(
        {
            "image": config["Image"],
            "policy": _digest(policy.model_dump_json()),
            "request": _digest(json.dumps(request, sort_keys=True)),
            "runtime": runtime,
            "init": init.parent.name,
            "engine": dict(engine),
            "kernel": os.uname(),
        },
        sort_keys=True,
    )


def recall(wanted: str) -> int | None:
    """How many probes found everything as configured, if that was measured within the last day."""
    path = _path(wanted)
    try:
        place = path.parent.stat()
        if place.st_uid != os.geteuid() or place.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return None
        entry = json.loads(path.read_bytes())
        fresh = 0 <= time.time() - float(entry["at"]) < TRUSTED_S
        return int(entry["probes"]) if fresh and entry["key"] == wanted else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remember(wanted: str, probes: int) -> None:
    """Whoever cannot keep it measures again next time."""
    path = _path(wanted)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor, name = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(descriptor, "w") as file:
            json.dump({"key": wanted, "at": time.time(), "probes": probes}, file)
        Path(name).rename(path)


def _path(wanted: str) -> Path:
    return cache_dir() / "posture" / f"{_digest(wanted)}.json"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
