"""Opening and leaving sandboxes: create, attach, start, greet; and the way back to one that was left running.

The order is fixed by what a failure may leave behind: everything that is made is registered for removal
before the next thing is made, and a sandbox that cannot be had exactly as configured is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import platformdirs

from policies import Policy
from policies.filters import seccomp_profile
from sandbox import owner
from sandbox.adjust import adjust
from sandbox.attach import Attachment
from sandbox.cache import cache_dir
from sandbox.channel import GREETING_S, Channel
from sandbox.container import DockerSandbox
from sandbox.engine import REQUEST_S, Engine, ImageFacts
from sandbox.errors import SandboxError, SandboxGone, SandboxRefused
from sandbox.hardening import ENVIRONMENT, ContainerSpec, container_config, sandbox_user
from sandbox.image import resolve
from sandbox.initbinary import init_binary
from sandbox.posture import expected, verify
from sandbox.posture.remembered import key
from sandbox.protocol import Gatekeeper, SandboxSpec
from sandbox.rootexec import RootCommands
from sandbox.runtime import usable
from sandbox.workspace.copyin import CopyReport, copy_in
from sandbox.workspace.hostdisk import HostDisk, refuse_full, room
from sandbox.workspace.modes import Provided, owner_of, provide, provide_again
from sandbox.workspace.quota import Storage, storage_of
from sandbox.workspace.watchdog import Watchdog

RECORD = "sandbox.json"
"""In the session's state directory: what `attach_sandbox` needs to know of a container."""

START_S = REQUEST_S + GREETING_S
"""Until init has answered: the engine's own time for the start, and what init may take."""

END_S = 5.0
"""For a container that was told to end, before it is killed."""

TEMPORARY = "usermode-box-"
"""Begins the names of state directories that were not given."""


@dataclass(frozen=True)
class Prepared:
    """A container's specification, and what belongs to it on the host."""

    policy: Policy
    image: ImageFacts
    runtime: str
    session: str
    state: Path
    config: Mapping[str, Any]
    environment: Mapping[str, str]
    storage: Storage | None
    report: CopyReport | None
    """What the session sees of the workspace where that is settled before the container starts."""
    init: Path
    """The init binary, under the digest of its sources."""
    host: contextlib.ExitStack
    """What is undone on the host when the container has ended; `detach` leaves it as it is."""
    temporary: bool
    """Whether the state directory is ours alone and goes too."""


@contextlib.asynccontextmanager
async def open_sandbox(spec: SandboxSpec, *, engine: Engine | None = None) -> AsyncIterator[DockerSandbox]:
    """A fresh container with a copy of the workspace; the block's end removes it, unless `detach` was said.

    EngineMissing, ImageMissing, or SandboxRefused: policy, image or workspace cannot be had as configured.
    """
    async with contextlib.AsyncExitStack() as stack:
        if engine is None:
            engine = await Engine.connect()
            stack.push_async_callback(engine.close)
        yield await open_in(stack, spec, engine)


async def open_in(stack: contextlib.AsyncExitStack, spec: SandboxSpec, engine: Engine) -> DockerSandbox:
    """As `open_sandbox`, with everything that must be undone registered on `stack`."""
    prepared = await prepare(stack, spec, engine, storage=spec.workspace is not None)
    async with _meanwhile(spec.fill):
        box = await launch(prepared, engine)
        stack.push_async_callback(box.close)
    if spec.workspace is not None and not spec.reopen:
        box.copy_report = prepared.report or await fill(prepared, spec.workspace)
    await watch(stack, engine, box, prepared.storage)
    if spec.gate is not None:
        await box.let_out(spec.gate)
    return box


@contextlib.asynccontextmanager
async def _meanwhile(work: Callable[[], None] | None) -> AsyncIterator[None]:
    """Do this in another thread beside the block. Both are over afterwards, whatever came of either."""
    if work is None:
        yield
        return
    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        yield
        await asyncio.shield(running)
    finally:
        # A thread cannot be cancelled, and what it writes to is unmounted next.
        await asyncio.wait([running])
        running.exception()


def _state_directory(spec: SandboxSpec) -> Path:
    if spec.state is not None:
        spec.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        return spec.state.resolve()
    return Path(tempfile.mkdtemp(prefix=TEMPORARY)).resolve()


def _undo(host: contextlib.ExitStack, state: Path, *, temporary: bool) -> None:
    """Register what ends with the container."""
    if temporary:
        host.callback(shutil.rmtree, state, ignore_errors=True)
    host.callback(_release, state)


async def prepare(
    stack: contextlib.AsyncExitStack, spec: SandboxSpec, engine: Engine, *, storage: bool
) -> Prepared:
    """All that a container needs on the host; `storage` says whether it will hold a workspace."""
    policy = spec.policy
    state = _state_directory(spec)
    temporary = spec.state is None
    host = stack.enter_context(contextlib.ExitStack())
    _undo(host, state, temporary=temporary)
    owner.claim(state)
    if not engine.is_local:
        raise SandboxRefused(
            "a sandbox needs an engine on this machine; unset DOCKER_HOST or choose a local context"
        )
    image, init = await asyncio.gather(
        resolve(engine, spec.image or policy.container.image, spec.image_digest), init_binary(engine)
    )
    uid, gid = _user(policy, spec.workspace)
    disk = await _provide(spec, state, engine, uid, gid) if storage else None
    session = spec.session or f"box-{secrets.token_hex(4)}"
    runtime = await usable(engine, spec.runtime, policy)
    config = container_config(
        ContainerSpec(
            policy=policy,
            image_id=image.id,
            image_config=image.config,
            runtime=runtime,
            uid=uid,
            gid=gid,
            init_path=init,
            workspace=disk.storage.path if disk else None,
            seccomp=seccomp_profile(policy.container.seccomp, runtime),
            labels={owner.SESSION: session, owner.OWNER: owner.this_process(), owner.STATE: str(state)},
        )
    )
    return Prepared(
        policy, image, runtime, session, state, config, _environment(policy, image),
        disk.storage if disk else None, disk.report if disk else None, init, host, temporary,
    )  # fmt: skip


async def _provide(spec: SandboxSpec, state: Path, engine: Engine, uid: int, gid: int) -> Provided:
    policy = spec.policy
    home = os.environ.get("USERMODE_HOME") or platformdirs.user_state_dir("usermode", appauthor=False)
    own = [cache_dir(), Path(home)]
    if policy.workspace.mode != "copy":
        own.append(Path((await engine.info()).get("DockerRootDir") or "/var/lib/docker"))
    refuse_full(state, 0)
    way = provide_again if spec.reopen else provide
    return await asyncio.to_thread(way, policy, spec.workspace, state, uid, gid, own)


def _release(state: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        storage_of(state).release()


def _environment(policy: Policy, image: ImageFacts) -> Mapping[str, str]:
    """What every command starts with: ours, the image's own PATH, the host's variables the policy names."""
    environment = dict(ENVIRONMENT)
    for entry in image.config.get("Env") or ():
        name, _, value = str(entry).partition("=")
        if name == "PATH" and value.startswith("/"):
            environment["PATH"] = value
    environment.update({name: os.environ[name] for name in policy.secrets.env if name in os.environ})
    return environment


async def launch(prepared: Prepared, engine: Engine) -> DockerSandbox:
    """Create, attach, start, greet, measure. Init says nothing before it is spoken to, so nothing is lost
    whichever of attach and start the engine does first.

    Init answers before the engine does, which has to write down what it started: by the time it has, the
    container is measured.
    """
    container = await engine.create(prepared.config, f"usermode-{prepared.session}-{secrets.token_hex(3)}")
    try:
        attachment = await Attachment.asked(engine.address, container)
    except BaseException:
        await asyncio.shield(_removed(engine, container))
        raise
    channel = Channel(attachment)
    starting = asyncio.ensure_future(engine.start(container))
    # Who waits for a greeting from what was never started is told.
    starting.add_done_callback(lambda done: channel.close() if _failure(done) else None)
    try:
        await attachment.opened()
        box = await _first_words(prepared, engine, container, channel)
        await asyncio.shield(starting)
    except BaseException as error:
        await asyncio.shield(_abandon(prepared, engine, container, channel, starting))
        if isinstance(error, SandboxGone) and (failure := _failure(starting)):
            raise failure from None  # The engine says why; the wire only that.
        raise
    return box


async def _first_words(prepared: Prepared, engine: Engine, container: str, channel: Channel) -> DockerSandbox:
    """Greet and measure. Nothing else runs inside before what was found there equals what is configured."""
    policy, runtime = prepared.policy, prepared.runtime
    record = Record(policy, prepared.environment, prepared.temporary, left=False, runtime=runtime)
    record.save(prepared.state)
    box = _box(record, prepared.state, prepared.host, container, channel, engine)
    want = expected(policy, prepared.config, runtime)
    known_by = key(policy, prepared.config, runtime, prepared.init, await engine.about())
    await channel.greet(policy.limits.orphan_s, again=False, within_s=START_S)
    box.posture = await verify(box, want, known_by)
    return box


def _failure(done: asyncio.Future[None]) -> BaseException | None:
    return None if done.cancelled() else done.exception()


async def _abandon(
    prepared: Prepared, engine: Engine, container: str, channel: Channel, starting: asyncio.Future[None]
) -> None:
    channel.close()
    # What is removed while it starts may stay in the engine's listing.
    await asyncio.wait([starting])
    await _removed(engine, container)
    (prepared.state / RECORD).unlink(missing_ok=True)


async def _removed(engine: Engine, container: str) -> None:
    with contextlib.suppress(SandboxError):
        await engine.remove(container)


@dataclass(frozen=True)
class Record:
    """What another process needs to know of a container to take it over."""

    policy: Policy
    environment: Mapping[str, str]
    temporary: bool
    left: bool
    """On purpose, by `detach`: no orphan."""
    runtime: str

    def save(self, state: Path) -> None:
        text = json.dumps({**vars(self), "policy": self.policy.model_dump(mode="json")})
        path, temporary = state / RECORD, state / f"{RECORD}.new"
        with open(
            os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w"
        ) as file:
            file.write(text)
        temporary.replace(path)

    @classmethod
    def load(cls, state: Path) -> Record:
        """OSError or ValueError when there is none that can be read."""
        fields = json.loads((state / RECORD).read_text())
        return cls(**{**fields, "policy": Policy.model_validate(fields["policy"])})


def _box(
    record: Record,
    state: Path,
    host: contextlib.ExitStack,
    container: str,
    channel: Channel,
    engine: Engine,
) -> DockerSandbox:
    async def ended() -> None:
        await _end(engine, container)
        (state / RECORD).unlink(missing_ok=True)

    async def detached() -> None:
        replace(record, left=True).save(state)
        host.pop_all()

    async def lost() -> None:
        await box.close()

    hold = partial(adjust, engine, container) if record.runtime == "runc" else None
    root = RootCommands(engine, container, lost)
    box = DockerSandbox(container, record.policy, channel, record.environment, ended, detached, hold, root)
    return box


async def _end(engine: Engine, container: str) -> None:
    """After SHUTDOWN, or the loss of the wire: gone for sure."""
    if not await engine.ended(container, END_S):
        await engine.remove(container)


def _user(policy: Policy, workspace: Path | None) -> tuple[int, int]:
    root = policy.container.user == "root"
    if workspace is not None and policy.workspace.mode != "copy":
        return owner_of(workspace, root=root)
    return (0, 0) if root else sandbox_user()


async def fill(prepared: Prepared, workspace: Path) -> CopyReport:
    """Copy the workspace into the storage that the container has mounted."""
    uid, gid = _user(prepared.policy, None)
    rules = prepared.policy.workspace
    had = room(prepared.state)
    report = await asyncio.to_thread(
        copy_in, workspace, prepared.state, limits=prepared.policy.limits, exclude=rules.exclude,
        include=rules.include, uid=uid, gid=gid,
    )  # fmt: skip
    # An image takes it all at once, and it is too late when the disk does not.
    refuse_full(prepared.state, report.bytes, had)
    return report


async def watch(
    stack: contextlib.AsyncExitStack, engine: Engine, box: DockerSandbox, storage: Storage | None
) -> None:
    """Where a file system does not keep its limit itself, somebody has to."""

    async def exceeded(reason: str) -> None:
        await box.stop_for_disk()

    watched = [storage.grows] if storage is not None and not storage.exact else []
    if box.policy.container.writable_root:
        watched.append(await _upper_directory(engine, box.ref))
    if storage is not None and storage.exact:
        await stack.enter_async_context(HostDisk(storage.session_dir, exceeded))
    for path in watched:
        await stack.enter_async_context(Watchdog(path, box.policy.limits, exceeded))


async def _upper_directory(engine: Engine, container: str) -> Path:
    """What a container writes into its root. SandboxRefused where it cannot be watched."""
    driver = (await engine.inspect(container)).get("GraphDriver") or {}
    upper = Path((driver.get("Data") or {}).get("UpperDir") or "/nonexistent")
    if not os.access(upper, os.R_OK | os.X_OK):
        raise SandboxRefused(
            "a writable root needs its disk use watched, and this process may not look at it; "
            "run as root, or set container.writable_root to false"
        )
    return upper


@contextlib.asynccontextmanager
async def attach_sandbox(
    ref: str, *, engine: Engine | None = None, gate: Gatekeeper | None = None
) -> AsyncIterator[DockerSandbox]:
    """Return to a sandbox that another harness left with `detach`, or died over. The block's end closes it.

    The way out is this `gate`, or none: the one of before has gone with its harness.

    SandboxGone when there is none any more; SandboxRefused when it is no sandbox of ours.
    """
    async with contextlib.AsyncExitStack() as stack:
        if engine is None:
            engine = await Engine.connect()
            stack.push_async_callback(engine.close)
        state, record = await _find(engine, ref)
        host = stack.enter_context(contextlib.ExitStack())
        owner.claim(state)
        _undo(host, state, temporary=record.temporary)
        channel = Channel(await Attachment.open(engine.address, ref))
        try:
            known = await channel.greet(record.policy.limits.orphan_s, again=True)
        except BaseException:
            channel.close()
            raise
        box = _box(record, state, host, ref, channel, engine)
        box.resume(known)
        stack.push_async_callback(box.close)
        storage = storage_of(state) if (state / "workspace").exists() else None
        await watch(stack, engine, box, storage)
        if gate is not None:
            await box.let_out(gate)
        yield box


async def _find(engine: Engine, ref: str) -> tuple[Path, Record]:
    try:
        facts = await engine.inspect(ref)
    except KeyError:
        raise SandboxGone(f"the sandbox is gone: no container {ref[:12]} on this engine") from None
    labels = facts["Config"].get("Labels") or {}
    if owner.STATE not in labels:
        raise SandboxRefused(f"container {ref[:12]} is no sandbox of ours")
    if not facts["State"].get("Running"):
        raise SandboxGone(f"the sandbox is gone: container {ref[:12]} has ended")
    state = Path(labels[owner.STATE])
    try:
        return state, Record.load(state)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise SandboxRefused(f"the record of container {ref[:12]} cannot be read: {error}") from error
