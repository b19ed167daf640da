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
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policies import Policy
from policies.filters import seccomp_profile
from sandbox import owner
from sandbox.attach import Attachment
from sandbox.channel import Channel
from sandbox.container import DockerSandbox
from sandbox.copyin import CopyReport, copy_in
from sandbox.engine import Engine, ImageFacts
from sandbox.errors import EngineFailed, SandboxError, SandboxGone, SandboxRefused
from sandbox.hardening import ENVIRONMENT, ContainerSpec, container_config, sandbox_user
from sandbox.initbinary import init_binary
from sandbox.protocol import SandboxSpec
from sandbox.quota import Storage, prepare, storage_of

RECORD = "sandbox.json"
"""In the session's state directory: what `attach_sandbox` needs to know of a container."""


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


@contextlib.asynccontextmanager
async def open_sandbox(spec: SandboxSpec, *, engine: Engine | None = None) -> AsyncIterator[DockerSandbox]:
    """A fresh container with a copy of the workspace; the block's end removes it, unless `detach` was said.

    EngineMissing, ImageMissing, or SandboxRefused: policy, image or workspace cannot be had as configured.
    """
    async with contextlib.AsyncExitStack() as stack:
        if engine is None:
            engine = await Engine.connect()
            stack.push_async_callback(engine.close)
        box = await open_in(stack, spec, engine)
        stack.push_async_callback(box.close)
        yield box


async def open_in(stack: contextlib.AsyncExitStack, spec: SandboxSpec, engine: Engine) -> DockerSandbox:
    """As `open_sandbox`, with what must be undone registered on `stack`: all but closing the sandbox."""
    state = _state_directory(stack, spec)
    prepared = await _prepare(stack, spec, engine, state)
    box = await launch(prepared, engine)
    try:
        report = await fill(prepared, spec)
    except BaseException:
        await box.close()
        raise
    box.copy_report = report
    await watch(stack, prepared, box)
    return box


def _state_directory(stack: contextlib.AsyncExitStack, spec: SandboxSpec) -> Path:
    if spec.state is not None:
        spec.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        return spec.state.resolve()
    directory = Path(tempfile.mkdtemp(prefix="usermode-")).resolve()
    stack.callback(shutil.rmtree, directory, ignore_errors=True)
    return directory


async def _prepare(
    stack: contextlib.AsyncExitStack, spec: SandboxSpec, engine: Engine, state: Path
) -> Prepared:
    policy = spec.policy
    if not engine.is_local:
        raise SandboxRefused(
            "a sandbox needs an engine on this machine; unset DOCKER_HOST or choose a local context"
        )
    image, init = await asyncio.gather(
        engine.image(spec.image or policy.container.image), init_binary(engine)
    )
    uid, gid = (0, 0) if policy.container.user == "root" else sandbox_user()
    storage = None
    if spec.workspace is not None:
        storage = await asyncio.to_thread(prepare, state, policy.limits, uid=uid, gid=gid)
        stack.callback(_release, storage)
    session = spec.session or f"box-{secrets.token_hex(4)}"
    runtime = spec.runtime or policy.container.runtime
    config = container_config(
        ContainerSpec(
            policy=policy,
            image_id=image.id,
            image_config=image.config,
            runtime=runtime,
            uid=uid,
            gid=gid,
            init_path=init,
            workspace=storage.path if storage else None,
            seccomp=seccomp_profile(policy.container.seccomp),
            labels={owner.SESSION: session, owner.OWNER: owner.this_process(), owner.STATE: str(state)},
        )
    )
    return Prepared(policy, image, runtime, session, state, config, _environment(policy, image), storage)


def _release(storage: Storage) -> None:
    with contextlib.suppress(FileNotFoundError):
        storage.release()


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
    """Create, attach, start, greet. Attached first, so that nothing init says is lost."""
    container = await engine.create(prepared.config, f"usermode-{prepared.session}-{secrets.token_hex(3)}")
    try:
        attachment = await Attachment.open(engine.address, container)
        channel = Channel(attachment)
        try:
            await engine.start(container)
            await channel.greet(prepared.policy.limits.orphan_s, again=False)
        except BaseException:
            channel.close()
            raise
    except BaseException:
        with contextlib.suppress(SandboxError):
            await asyncio.shield(_removed(engine, container))
        raise
    return _box(prepared.policy, prepared.environment, prepared.state, container, channel, engine)


def _box(
    policy: Policy,
    environment: Mapping[str, str],
    state: Path,
    container: str,
    channel: Channel,
    engine: Engine,
) -> DockerSandbox:
    async def ended() -> None:
        await _removed(engine, container)
        (state / RECORD).unlink(missing_ok=True)

    async def detached() -> None:
        record = {
            "container": container,
            "policy": policy.model_dump(mode="json"),
            "environment": dict(environment),
        }
        _write_private(state / RECORD, json.dumps(record))

    return DockerSandbox(container, policy, channel, environment, ended, detached)


async def _removed(engine: Engine, container: str) -> None:
    """Gone for sure: also where the engine is removing it already."""
    await engine.remove(container)
    for pause_s in (0.0, 0.01, 0.02, 0.05, *([0.1] * 300)):
        await asyncio.sleep(pause_s)
        try:
            await engine.inspect(container)
        except KeyError:
            return
    raise EngineFailed(f"the engine does not remove container {container[:12]}; see `usermode gc`")


async def fill(prepared: Prepared, spec: SandboxSpec) -> CopyReport | None:
    """Copy the workspace into the storage that the container has mounted."""
    if prepared.storage is None or spec.workspace is None:
        return None
    uid, gid = (0, 0) if prepared.policy.container.user == "root" else sandbox_user()
    rules = prepared.policy.workspace
    return await asyncio.to_thread(
        copy_in, spec.workspace, prepared.state, limits=prepared.policy.limits, exclude=rules.exclude,
        include=rules.include, uid=uid, gid=gid,
    )  # fmt: skip


async def watch(stack: contextlib.AsyncExitStack, prepared: Prepared, box: DockerSandbox) -> None:
    """Where the file system does not keep the limit itself, somebody has to."""
    storage = prepared.storage
    if storage is None or storage.exact:
        return

    raise SandboxRefused("no exact workspace limit can be had here, and nothing watches it yet")


@contextlib.asynccontextmanager
async def attach_sandbox(ref: str, *, engine: Engine | None = None) -> AsyncIterator[DockerSandbox]:
    """Return to a sandbox that another harness left with `detach`, or died over. The block's end closes it.

    SandboxGone when there is none any more; SandboxRefused when it is no sandbox of ours.
    """
    async with contextlib.AsyncExitStack() as stack:
        if engine is None:
            engine = await Engine.connect()
            stack.push_async_callback(engine.close)
        state, record = await _record(engine, ref)
        policy = Policy.model_validate(record["policy"])
        channel = Channel(await Attachment.open(engine.address, ref))
        try:
            known = await channel.greet(policy.limits.orphan_s, again=True)
        except BaseException:
            channel.close()
            raise
        box = _box(policy, record["environment"], state, ref, channel, engine)
        box.resume(known)
        stack.push_async_callback(box.close)
        with contextlib.suppress(FileNotFoundError):
            storage = await asyncio.to_thread(storage_of, state)
            stack.callback(_release, storage)
        yield box


async def _record(engine: Engine, ref: str) -> tuple[Path, dict[str, Any]]:
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
        record: dict[str, Any] = json.loads((state / RECORD).read_text())
    except (OSError, ValueError) as error:
        raise SandboxRefused(f"the record of container {ref[:12]} cannot be read: {error}") from error
    return state, record


def _write_private(path: Path, text: str) -> None:
    temporary = path.with_suffix(".new")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:
        file.write(text)
    temporary.replace(path)
