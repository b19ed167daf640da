"""What a sandbox needs before its container is made: image, init, workspace, and the request itself.

Everything that is made is registered for removal before the next thing is, and a sandbox that cannot be had
exactly as configured is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from policies import Policy
from policies.filters import seccomp_profile
from sandbox import owner
from sandbox.cache import cache_dir
from sandbox.checkpoints.planting import begin
from sandbox.engine import Engine, ImageFacts
from sandbox.errors import SandboxRefused
from sandbox.hardening import ENVIRONMENT, ContainerSpec, container_config, sandbox_user
from sandbox.image.build import resolve
from sandbox.image.initbinary import init_binary
from sandbox.protocol import SandboxSpec
from sandbox.runtime import usable
from sandbox.workspace.copyin import CopyReport, copy_in
from sandbox.workspace.hostdisk import refuse_full, room
from sandbox.workspace.modes import Provided, owner_of, provide, provide_again
from sandbox.workspace.quota import Storage, storage_of

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
    planting: Callable[[], None] | None
    """Makes what stands in a workspace that was promised, while the container starts; as `planting.begin`."""
    init: Path
    """The init binary, under the digest of its sources."""
    host: contextlib.ExitStack
    """What is undone on the host when the container has ended; `detach` leaves it as it is."""
    temporary: bool
    """Whether the state directory is ours alone and goes too."""


async def prepare(
    stack: contextlib.AsyncExitStack, spec: SandboxSpec, engine: Engine, *, storage: bool
) -> Prepared:
    """All that a container needs on the host; `storage` says whether it will hold a workspace."""
    policy = spec.policy
    state = _state_directory(spec)
    temporary = spec.state is None
    host = stack.enter_context(contextlib.ExitStack())
    undo_with(host, state, temporary=temporary)
    owner.claim(state)
    if not engine.is_local:
        raise SandboxRefused(
            "a sandbox needs an engine on this machine; unset DOCKER_HOST or choose a local context"
        )
    making = asyncio.ensure_future(init_binary(engine))
    try:
        image = await resolve(engine, spec.image or policy.container.image, spec.image_digest)
        init = await making
    except BaseException:
        # It may be compiling that, in a container: nothing of it stays behind.
        making.cancel()
        await asyncio.gather(making, return_exceptions=True)
        raise
    uid, gid = _user(policy, spec.workspace)
    planting = await asyncio.to_thread(begin, state) if storage and spec.reopen else None
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
        disk.storage if disk else None, disk.report if disk else None, planting, init, host, temporary,
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


def _state_directory(spec: SandboxSpec) -> Path:
    if spec.state is not None:
        spec.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        return spec.state.resolve()
    return Path(tempfile.mkdtemp(prefix=TEMPORARY)).resolve()


def undo_with(host: contextlib.ExitStack, state: Path, *, temporary: bool) -> None:
    """Register what ends with the container."""
    if temporary:
        host.callback(shutil.rmtree, state, ignore_errors=True)
    host.callback(_release, state)


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
