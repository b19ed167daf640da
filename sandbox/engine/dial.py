"""Finding the engine as the docker command does, and agreeing on an API version with it. Blocking."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable
from typing import Any

from sandbox.address import EngineAddress, address_of
from sandbox.engine.failures import translated
from sandbox.errors import EngineMissing

CONNECT_S = 10.0


def dial(request_s: float) -> tuple[EngineAddress, Callable[[], Any]]:
    """Where it is, and what makes an SDK client, with `request_s` for a request. EngineMissing."""
    import docker
    from docker.constants import DEFAULT_DOCKER_API_VERSION
    from docker.context import ContextAPI
    from docker.utils import kwargs_from_env

    address: EngineAddress | None = None
    try:
        asked = kwargs_from_env() if os.environ.get("DOCKER_HOST") else _current_context(ContextAPI)
        url = docker.utils.parse_host(asked.get("base_url"), tls=bool(asked.get("tls")))
        address = address_of(url, asked.get("tls"))

        def client(version: str = "1.41") -> Any:
            made = docker.APIClient(
                base_url=url, tls=asked.get("tls") or False, version=version, timeout=request_s
            )
            # A local socket has no proxy, and looking for one in the environment costs time in every request.
            made.trust_env = address is not None and address.scheme != "unix"
            return made

        _reach(address)
        first = client()
        try:
            answer = first.get(f"{first.base_url}/_ping", timeout=CONNECT_S)
            answer.raise_for_status()
        finally:
            first.close()
    except EngineMissing:
        raise
    except Exception as error:
        raise translated(error, refusal=False, image="", address=address) from error
    spoken = str(answer.headers.get("Api-Version", ""))
    if not re.fullmatch(r"1\.\d{2,3}", spoken) or _minor(spoken) < 41:
        raise EngineMissing(
            f"what answers at {url} speaks Docker API {spoken or 'unknown'}; 1.41 (Docker 20.10) is needed"
        )
    version = min(spoken, str(DEFAULT_DOCKER_API_VERSION), key=_minor)
    return address, lambda: client(version)


def _reach(address: EngineAddress) -> None:
    """Fail where nothing listens before the SDK does, which leaves its socket behind then."""
    if address.scheme == "unix":
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(CONNECT_S)
            peer.connect(address.path)


def _current_context(contexts: Any) -> dict[str, Any]:
    """The SDK would quietly take the local engine for a context that does not exist."""
    name = os.environ.get("DOCKER_CONTEXT") or None
    if contexts.get_context(name) is None:
        raise EngineMissing(
            f"the docker context {name or 'in use'!r} does not exist: see `docker context ls`"
        )
    return dict(contexts.kwargs_from_context(name))


def _minor(version: str) -> int:
    return int(version.partition(".")[2])
