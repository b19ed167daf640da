"""The engine as seen by its callers: on a real one where there is one, and on a scripted one for bad days."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer

import pytest

from sandbox.engine import Engine, control, removal
from sandbox.engine.reference import valid_reference
from sandbox.errors import EngineFailed, EngineMissing, ImageMissing, SandboxRefused

LABEL = "usermode.test.engine"
Answer = tuple[int, object]


def test_image_references_are_names_and_nothing_else() -> None:
    digest = "a" * 64
    for good in (
        "debian",
        "usermode/base",
        "debian:bookworm-slim",
        "localhost:5000/team/app_x:1.0-rc.1",
        "registry.example.org/a/b/c@sha256:" + digest,
        "sha256:" + digest,
    ):
        assert valid_reference(good), good
    for bad in (
        "",
        "--privileged",
        "-v/:/host",
        "a b",
        "a\nb",
        "a\n",
        "Debian",
        "debian:",
        "debian:-x",
        "/debian",
        "debian/",
        "../debian",
        "a//b",
        "debian@sha256:abc",
        "debian;id",
        "$(id)",
        "dеbian",  # a Cyrillic letter
        "a" * 600,
    ):
        assert not valid_reference(bad), bad


def test_a_hostile_reference_is_judged_at_once() -> None:
    """Shapes that make a careless pattern try every split of them."""
    for reference in ("a-" * 255, "a." * 255 + "!", "a__" * 170 + "/", "A" * 511 + "/"):
        assert not valid_reference(reference)


class Scripted:
    """An engine that answers what it is told to, at a socket of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.api_version = "1.41"
        self.dying = False
        self.answers: dict[str, Answer | Callable[[], Answer]] = {}
        """By the last part of the request's path."""
        scripted = self

        class Handler(BaseHTTPRequestHandler):
            def address_string(self) -> str:
                return "local"

            def log_message(self, format: str, *args: object) -> None: ...

            def respond(self) -> None:
                if scripted.dying:
                    return
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                last = self.path.partition("?")[0].rpartition("/")[2]
                answer = scripted.answers.get(last, (404, {"message": f"No such thing: {last}"}))
                status, body = answer() if callable(answer) else answer
                content = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Api-Version", scripted.api_version)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def quietly(self) -> None:
                # Callers that ran out of time are gone when the answer comes.
                with contextlib.suppress(BrokenPipeError):
                    self.respond()

            do_GET = do_POST = do_DELETE = quietly

        self.server = ThreadingUnixStreamServer(str(path), Handler)
        self.server.daemon_threads = True
        self.answers["_ping"] = (200, b"OK")

    def address(self) -> str:
        return f"unix://{self.path}"


@pytest.fixture
def scripted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripted]:
    peer = Scripted(tmp_path / "docker.sock")
    thread = threading.Thread(target=peer.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("DOCKER_HOST", peer.address())
    yield peer
    peer.server.shutdown()
    peer.server.server_close()
    thread.join()


@pytest.fixture
async def engine(scripted: Scripted) -> AsyncIterator[Engine]:
    connected = await Engine.connect()
    yield connected
    await connected.close()


async def test_no_engine_is_said_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for address in (f"unix://{tmp_path}/none.sock", "tcp://127.0.0.1:1"):
        monkeypatch.setenv("DOCKER_HOST", address)
        with pytest.raises(EngineMissing, match=r"no Docker engine answers at .*make engine.*group"):
            await Engine.connect()


async def test_an_address_that_cannot_be_used_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for address in ("ssh://somewhere", "npipe:////./pipe/docker", "nonsense"):
        monkeypatch.setenv("DOCKER_HOST", address)
        with pytest.raises(EngineMissing):
            await Engine.connect()


async def test_a_context_that_does_not_exist_is_not_the_local_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setenv("DOCKER_CONTEXT", "no-such-context")
    with pytest.raises(EngineMissing, match="no-such-context"):
        await Engine.connect()


async def test_an_engine_too_old_is_refused(scripted: Scripted) -> None:
    for version in ("1.40", "", "banana"):
        scripted.api_version = version
        with pytest.raises(EngineMissing, match=r"1\.41"):
            await Engine.connect()


async def test_the_address_is_for_connections_of_ones_own(scripted: Scripted, engine: Engine) -> None:
    assert engine.address.scheme == "unix"
    assert engine.address.path == str(scripted.path)
    assert engine.is_local


async def test_errors_of_create_tell_the_image_from_the_configuration(
    scripted: Scripted, engine: Engine
) -> None:
    scripted.answers["create"] = (404, {"message": "No such image: gone:latest"})
    with pytest.raises(ImageMissing, match="'gone'"):
        await engine.create({"Image": "gone"}, "name")
    scripted.answers["create"] = (400, {"message": "Unknown runtime specified runsc"})
    with pytest.raises(SandboxRefused, match="Unknown runtime specified runsc"):
        await engine.create({"Image": "here"}, "name")
    scripted.answers["create"] = (409, {"message": "The name is in use"})
    with pytest.raises(EngineFailed, match="The name is in use"):
        await engine.create({"Image": "here"}, "name")
    scripted.answers["create"] = (
        400,
        {"message": 'invalid mount config for type "bind": bind source path does not exist: /x'},
    )
    with pytest.raises(SandboxRefused, match="does not see this machine's files"):
        await engine.create({"Image": "here"}, "name")


async def test_a_container_name_cannot_be_anything_else(engine: Engine) -> None:
    for name in ("", "-x", "a/b", "a b", "x?force=1", "a\n"):
        with pytest.raises(ValueError, match="not a container name"):
            await engine.create({"Image": "here"}, name)


async def test_an_answer_that_is_no_answer_is_the_engines_failure(scripted: Scripted, engine: Engine) -> None:
    scripted.answers["info"] = (200, b"<html>")
    with pytest.raises(EngineFailed):
        await engine.info()
    scripted.answers["info"] = (500, b"\xff\xfe boom \x1b[31m\nmore")
    with pytest.raises(EngineFailed) as caught:
        await engine.info()
    assert "\n" not in str(caught.value)


async def test_a_silent_engine_does_not_hold_the_caller(
    scripted: Scripted, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    awake = threading.Event()

    def sleep() -> Answer:
        awake.wait(30)
        return 200, {}

    scripted.answers["json"] = sleep
    monkeypatch.setattr(control, "REQUEST_S", 0.3)
    with pytest.raises(EngineFailed, match=r"did not answer"):
        await engine._call(lambda client: client.inspect_container("x"), timeout_s=0.3)
    awake.set()


async def test_an_engine_that_goes_away_is_missing(scripted: Scripted, engine: Engine) -> None:
    scripted.dying = True
    with pytest.raises(EngineMissing):
        await engine.info()


async def test_a_cancelled_create_leaves_no_container(scripted: Scripted, engine: Engine) -> None:
    asked, go_on, removed = threading.Event(), threading.Event(), threading.Event()

    def create() -> Answer:
        asked.set()
        go_on.wait(30)
        return 201, {"Id": "c0ffee"}

    def remove() -> Answer:
        removed.set()
        return 204, b""

    scripted.answers["create"] = create
    scripted.answers["json"] = (200, {"HostConfig": {"AutoRemove": False}, "State": {"Status": "created"}})
    scripted.answers["c0ffee"] = remove
    task = asyncio.create_task(engine.create({"Image": "here"}, "name"))
    await asyncio.to_thread(asked.wait, 30)
    task.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert removed.is_set()


async def test_removing_what_is_gone_or_going_is_no_error(scripted: Scripted, engine: Engine) -> None:
    await engine.remove("gone")
    there: Answer = (200, {"HostConfig": {"AutoRemove": False}, "State": {"Status": "exited"}})
    scripted.answers["json"] = iter([there, there, (404, {"message": "No such container"})]).__next__
    scripted.answers["going"] = (409, {"message": "removal of container going is already in progress"})
    await engine.remove("going")
    scripted.answers["json"] = there
    scripted.answers["stuck"] = (500, {"message": "device or resource busy"})
    with pytest.raises(EngineFailed, match="busy"):
        await engine.remove("stuck")


async def test_a_container_that_never_goes_is_the_engines_failure(
    scripted: Scripted, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "REMOVAL_S", 0.1)
    scripted.answers["json"] = (200, {"HostConfig": {"AutoRemove": True}, "State": {"Status": "removing"}})
    scripted.answers["going"] = (409, {"message": "removal of container going is already in progress"})
    with pytest.raises(EngineFailed, match="not removed"):
        await engine.remove("going")


async def test_what_only_the_listing_still_knows_is_not_there(scripted: Scripted, engine: Engine) -> None:
    """Docker 20.10 can list a removed container for good."""
    listed = [{"Id": "ghost", "State": "removing"}, {"Id": "real", "State": "running"}]
    answers = iter([(200, listed), (404, {"message": "No such container: ghost"})])
    scripted.answers["json"] = answers.__next__
    assert [one["Id"] for one in await engine.containers({"any": ""})] == ["real"]


async def test_inspecting_what_is_gone_is_a_key_error(engine: Engine) -> None:
    with pytest.raises(KeyError):
        await engine.inspect("gone")


@pytest.fixture
async def real() -> AsyncIterator[Engine]:
    connected = await Engine.connect()
    yield connected
    for container in await connected.containers({LABEL: ""}):
        await connected.remove(container["Id"])
    await connected.close()


def throw_away(script: str) -> dict[str, object]:
    return {
        "Image": "usermode/base",
        "Entrypoint": ["/bin/bash", "-c", script],
        "Labels": {LABEL: "yes"},
        "NetworkDisabled": True,
        "HostConfig": {"NetworkMode": "none"},
    }


def a_name() -> str:
    return f"usermode-test-{uuid.uuid4().hex[:12]}"


@pytest.mark.docker
async def test_a_container_is_made_found_and_removed(real: Engine) -> None:
    container = await real.create(throw_away("sleep 60"), a_name())
    assert [one["Id"] for one in await real.containers({LABEL: "yes"})] == [container]
    assert await real.containers({LABEL: "no"}) == []
    await real.start(container)
    assert (await real.inspect(container))["State"]["Running"]
    await real.remove(container)
    await real.remove(container)
    with pytest.raises(KeyError):
        await real.inspect(container)


@pytest.mark.docker
@pytest.mark.parametrize("script", ["sleep 60", "exit", "sleep 0.05"])
async def test_a_container_that_removes_itself_is_gone_on_return(real: Engine, script: str) -> None:
    config = throw_away(script)
    config["HostConfig"] = {"NetworkMode": "none", "AutoRemove": True}
    for pause_s in (0, 0.05):
        container = await real.create(config, a_name())
        await real.start(container)
        await asyncio.sleep(pause_s)
        async with asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(real.remove(container))
        with pytest.raises(KeyError):
            await real.inspect(container)
        listed = await real._call(lambda client: client.containers(all=True, filters={"label": LABEL}))
        assert container not in [one["Id"] for one in listed]


@pytest.mark.docker
async def test_a_program_that_is_not_there_is_a_refused_start(real: Engine) -> None:
    config = {**throw_away(""), "Entrypoint": ["/no/such/program"]}
    container = await real.create(config, a_name())
    with pytest.raises(SandboxRefused, match="no such file or directory"):
        await real.start(container)


@pytest.mark.docker
async def test_run_once_keeps_the_streams_apart_and_cleans_up(real: Engine) -> None:
    assert await real.run_once(throw_away("echo out; echo err >&2; exit 3"), a_name()) == (
        3,
        b"out\n",
        b"err\n",
    )
    assert await real.containers({LABEL: ""}) == []


@pytest.mark.docker
async def test_many_at_once_share_the_few_threads(real: Engine) -> None:
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(real.image("usermode/base")) for _ in range(40)]
    assert len({task.result().id for task in asked}) == 1


@pytest.mark.docker
async def test_an_image_is_known_by_its_id(real: Engine) -> None:
    facts = await real.image("usermode/base")
    assert facts.id.startswith("sha256:")
    assert facts.digest.startswith("sha256:")
    assert (await real.image(facts.id)).id == facts.id
    with pytest.raises(ImageMissing):
        await real.image("usermode/no-such-image")
    with pytest.raises(SandboxRefused, match="not an image reference"):
        await real.image("--privileged")
