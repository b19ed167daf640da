"""The engine (Docker daemon): create, start, inspect and remove.

This is the control plane alone; nothing that happens inside a container goes through it. The SDK blocks
and is not thread-safe, so it runs on a small pool of threads, a client each. Every request has a time limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sandbox.address import EngineAddress
from sandbox.engine.dial import dial
from sandbox.engine.failures import translated
from sandbox.engine.reference import checked, split
from sandbox.engine.removal import inspected, remove
from sandbox.errors import EngineFailed, ImageMissing, SandboxError

WORKERS = 4
REQUEST_S = 60.0
"""One request of the control plane. Starting a container is the slowest, about 0.1 s on a quiet machine."""
BUILD_S = 1800.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}", re.ASCII)

_ABOUT = (
    *("ID", "ServerVersion", "KernelVersion", "Architecture", "CgroupVersion", "CgroupDriver", "Driver"),
    *("DefaultRuntime", "Runtimes", "RuncCommit", "ContainerdCommit", "SecurityOptions"),
)
"""What of an engine's facts decides how its containers come out."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class ImageFacts:
    id: str
    """The engine's own `sha256:…`; what a container is created from, so that a moved tag changes nothing."""
    digest: str
    """The registry's digest where the image came from one, else the id."""
    config: Mapping[str, Any]
    """The image's own defaults: Env, Volumes, Labels, User and so on, as the engine tells them."""


class Engine:
    """A connection to one engine. Beside what it names itself, every method raises EngineMissing when nothing
    answers any more, and EngineFailed when the engine answers with an error or not in time.
    """

    def __init__(self, address: EngineAddress, client: Callable[[], Any]) -> None:
        """Use `connect`. `client` makes an SDK client and is called once in each worker thread."""
        self.address = address
        self._make_client = client
        self._local = threading.local()
        self._clients: list[Any] = []
        self._about: dict[str, Any] | None = None
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="engine")

    @classmethod
    async def connect(cls) -> Engine:
        """Find the engine as the docker command does: DOCKER_HOST, else the context, else the usual socket.

        EngineMissing when none answers; the message says what to do.
        """
        address, client = await asyncio.to_thread(dial, REQUEST_S)
        return cls(address, client)

    @property
    def is_local(self) -> bool:
        """Whether paths of this machine can be mounted. An engine behind a local socket that still does not
        see them (a desktop's virtual machine, a socket handed into a container) refuses the mount when asked.
        """
        return self.address.scheme == "unix"

    async def create(self, config: Mapping[str, Any], name: str) -> str:
        """Create a container from the API's own JSON and return its id.

        ImageMissing, or SandboxRefused with the engine's sentence when it does not accept the configuration.
        When the awaiting task is cancelled the container is removed again.
        """
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a container name")
        image = str(config.get("Image", ""))

        def work(client: Any) -> str:
            return str(client.create_container_from_config(dict(config), name)["Id"])

        creating = asyncio.ensure_future(self._call(work, refusal=True, image=image))
        try:
            return await asyncio.shield(creating)
        except asyncio.CancelledError:
            with contextlib.suppress(SandboxError):
                await self.remove(await creating)
            raise

    async def start(self, container: str) -> None:
        """SandboxRefused with the engine's sentence when the container cannot be started as configured."""
        await self._call(lambda client: client.start(container), refusal=True)

    async def update(self, container: str, resources: Mapping[str, int]) -> None:
        """Other bounds for a container that runs; SandboxRefused when it keeps those it has."""

        def work(client: Any) -> None:
            # The SDK's own method has no word for the number of processes.
            url = client._url("/containers/{0}/update", container)
            client._result(client._post_json(url, data=dict(resources)), json=True)

        await self._call(work, refusal=True)

    async def prepare_exec(self, container: str, argv: Sequence[str]) -> str:
        """Ready a program to be started beside what runs in a container, as root: for our own init alone.
        The id is for `Attachment.open_exec`.

        KeyError when there is no such container, or it does not run.
        """

        def work(client: Any) -> str | None:
            from docker.errors import APIError, NotFound

            try:
                made = client.exec_create(
                    container, list(argv), stdin=True, tty=False, user="0:0", workdir="/"
                )
            except NotFound:
                return None
            except APIError as error:
                if error.status_code == 409:
                    return None
                raise
            return str(made["Id"])

        made = await self._call(work)
        if made is None:
            raise KeyError(container)
        return made

    async def remove(self, container: str) -> None:
        """End the container and remove it with its anonymous volumes; it is gone on return.

        No error when it is gone or going already.
        """
        await self._call(lambda client: remove(client, container))

    async def ended(self, container: str, within_s: float) -> bool:
        """Whether a container that was told to end, and removes itself, is gone in time.

        Waited for and not helped along: in Docker 20.10 a kill that meets the end leaves the container in the
        engine's listing for good.
        """
        deadline = time.monotonic() + within_s
        while await self._call(lambda client: inspected(client, container)) is not None:
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.02)
        return True

    async def inspect(self, container: str) -> dict[str, Any]:
        """KeyError when there is no such container."""
        found = await self._call(lambda client: inspected(client, container))
        if found is None:
            raise KeyError(container)
        return found

    async def containers(self, labels: Mapping[str, str]) -> list[dict[str, Any]]:
        """Containers in any state that carry all of the labels; an empty value matches any."""
        wanted = [f"{key}={value}" if value else key for key, value in labels.items()]

        def work(client: Any) -> list[dict[str, Any]]:
            listed = client.containers(all=True, filters={"label": wanted})
            # Docker 20.10 may go on listing a container that is removed; only then does inspecting it fail.
            return [one for one in listed if one["State"] != "removing" or inspected(client, one["Id"])]

        return await self._call(work)

    async def run_once(
        self, config: Mapping[str, Any], name: str, timeout_s: float = 300
    ) -> tuple[int, bytes, bytes]:
        """Run a throw-away container to its end: exit code, stdout, stderr. For our own images: the output
        passes through the engine's log, so the configuration must not name the log driver `none`.
        """

        def work(client: Any) -> tuple[int, bytes, bytes]:
            client.start(container)
            code = int(client.wait(container, timeout=timeout_s)["StatusCode"])
            streams = [client.logs(container, stdout=out, stderr=not out) for out in (True, False)]
            return code, bytes(streams[0]), bytes(streams[1])

        container = await self.create(config, name)
        try:
            return await self._call(work, timeout_s=timeout_s, refusal=True)
        finally:
            await self.remove(container)

    async def image(self, reference: str) -> ImageFacts:
        """ImageMissing when the engine does not have it; SandboxRefused when it is no image reference."""
        checked(reference)
        facts = await self._call(lambda client: client.inspect_image(reference), image=reference)
        return _image_facts(facts)

    async def images(self, labels: Mapping[str, str]) -> list[dict[str, Any]]:
        wanted = [f"{key}={value}" if value else key for key, value in labels.items()]
        return await self._call(lambda client: list(client.images(filters={"label": wanted})))

    async def tag(self, image_id: str, reference: str) -> None:
        repository, tag = split(checked(reference))
        await self._call(lambda client: client.tag(image_id, repository, tag, force=True), image=image_id)

    async def remove_image(self, reference: str) -> None:
        """No error when it is not there; EngineFailed while a container uses it."""
        with contextlib.suppress(ImageMissing):
            await self._call(lambda client: client.remove_image(checked(reference)), image=reference)

    async def pull(self, reference: str, timeout_s: float) -> None:
        """EngineFailed when the registry does not have it, refuses, or is not done in time."""
        repository, tag = split(checked(reference))

        def work(client: Any) -> None:
            client.pull(repository, tag=tag)
            client.inspect_image(reference)

        await self._call(work, timeout_s=timeout_s)

    async def import_tar(self, archive: Path, reference: str, changes: Iterable[str]) -> None:
        """Make an image of one layer from a root file system; `changes` are Dockerfile instructions."""
        repository, tag = split(checked(reference))
        lines = list(changes)

        def work(client: Any) -> None:
            with archive.open("rb") as stream:
                client.import_image_from_data(stream, repository=repository, tag=tag, changes=lines)

        await self._call(work, timeout_s=BUILD_S)

    async def build(
        self, context: Path, reference: str, *, arguments: Mapping[str, str], labels: Mapping[str, str]
    ) -> None:
        """Build the Dockerfile of a directory; EngineFailed with the last line of the build when it fails."""

        def work(client: Any) -> None:
            last = ""
            steps = client.build(
                path=str(context),
                tag=checked(reference),
                buildargs=dict(arguments),
                labels=dict(labels),
                rm=True,
                forcerm=True,
                decode=True,
            )
            for step in steps:
                last = str(step.get("stream", last)).strip() or last
                if "error" in step:
                    raise EngineFailed(
                        f"building {reference} failed: {str(step['error']).strip()} (after: {last})"
                    )

        await self._call(work, timeout_s=BUILD_S)

    async def info(self) -> dict[str, Any]:
        return await self._call(lambda client: dict(client.info()))

    async def about(self) -> dict[str, Any]:
        """Which engine this is, its runtimes and its kernel; asked once."""
        if self._about is None:
            info = await self.info()
            self._about = {name: info.get(name) for name in _ABOUT}
        return self._about

    async def version(self) -> dict[str, Any]:
        return await self._call(lambda client: dict(client.version()))

    async def close(self) -> None:
        """Let go of the connections. Requests that still run are waited for."""
        await asyncio.to_thread(self._pool.shutdown)
        for client in self._clients:
            client.close()
        self._clients.clear()

    async def _call(
        self,
        work: Callable[[Any], Result],
        *,
        timeout_s: float = REQUEST_S,
        refusal: bool = False,
        image: str = "",
    ) -> Result:
        """Run `work` with this thread's client; its exceptions become ours."""

        def run() -> Result:
            try:
                client = self._client()
                client.timeout = timeout_s
                return work(client)
            except SandboxError:
                raise
            except Exception as error:
                raise translated(error, refusal=refusal, image=image, address=self.address) from error

        try:
            async with asyncio.timeout(timeout_s + 1):
                return await asyncio.get_running_loop().run_in_executor(self._pool, run)
        except TimeoutError:
            raise EngineFailed(f"the engine did not answer within {timeout_s:g} s") from None

    def _client(self) -> Any:
        client = getattr(self._local, "client", None)
        if client is None:
            client = self._local.client = self._make_client()
            self._clients.append(client)
        return client


def _image_facts(facts: Mapping[str, Any]) -> ImageFacts:
    digests = facts.get("RepoDigests") or []
    digest = str(digests[0]).partition("@")[2] if digests else str(facts["Id"])
    return ImageFacts(id=str(facts["Id"]), digest=digest, config=facts.get("Config") or {})
