"""What goes wrong with an engine: exceptions of the SDK and of HTTP in our tree, each in one line."""

from __future__ import annotations

from sandbox.address import EngineAddress
from sandbox.errors import EngineFailed, EngineMissing, ImageMissing, SandboxError, SandboxRefused

REMOTE = "the engine does not see this machine's files; remote engines are not supported yet"
MISSING = "run `make engine`, or start the daemon, or add yourself to the group `docker`"


def translated(error: Exception, *, refusal: bool, image: str, address: EngineAddress | None) -> SandboxError:
    """Ours for `error`, which is raised again when it is nobody's."""
    from docker.errors import APIError, DockerException, ImageNotFound
    from requests.exceptions import ConnectionError as Unreachable
    from requests.exceptions import RequestException, Timeout

    if isinstance(error, ImageNotFound) and image:
        return ImageMissing(image)
    if isinstance(error, APIError):
        sentence = " ".join(str(error.explanation or error).split())
        if "bind source path does not exist" in sentence:
            return SandboxRefused(f"{REMOTE} ({sentence})")
        if refusal and error.status_code in (400, 403, 404, 500, 501):
            return SandboxRefused(f"the engine refused the container: {sentence}")
        return EngineFailed(f"the engine answered {error.status_code}: {sentence}")
    if isinstance(error, Timeout):
        return EngineFailed("the engine did not answer in time")
    where = (address.path or f"{address.host}:{address.port}") if address else "the usual socket"
    if isinstance(error, Unreachable | ConnectionError | PermissionError | FileNotFoundError):
        return EngineMissing(f"no Docker engine answers at {where}: {MISSING}")
    if address is None:
        return EngineMissing(f"no Docker engine can be found: {' '.join(str(error).split())}")
    if isinstance(error, DockerException | RequestException | OSError | ValueError):
        return EngineFailed(f"talking to the engine at {where} failed: {' '.join(str(error).split())}")
    raise error
