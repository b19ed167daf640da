"""Removing a container so that it is gone, whatever Docker 20.10 makes of it meanwhile."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from sandbox.errors import EngineFailed

REMOVAL_S = 10.0
"""How long a container that is being removed may take."""


def inspected(client: Any, container: str) -> dict[str, Any] | None:
    """None when there is no such container."""
    from docker.errors import NotFound

    try:
        facts: dict[str, Any] = client.inspect_container(container)
    except NotFound:
        return None
    return facts


def remove(client: Any, container: str) -> None:
    """A container that removes itself is only killed and waited for: in Docker 20.10 a second removal at that
    moment can leave it in the engine's listing for good.
    """
    from docker.errors import APIError

    found = inspected(client, container)
    if found is None:
        return
    if found["HostConfig"]["AutoRemove"] and found["State"]["Status"] != "created":
        with contextlib.suppress(APIError):
            client.kill(container)
        if _gone(client, container):
            return
    try:
        client.remove_container(container, force=True, v=True)
    except APIError as error:
        if error.status_code not in (404, 409):
            raise
        if not _gone(client, container):
            raise EngineFailed(f"container {container[:12]} is not removed after {REMOVAL_S:g} s") from error


def _gone(client: Any, container: str) -> bool:
    deadline = time.monotonic() + REMOVAL_S
    while inspected(client, container) is not None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
