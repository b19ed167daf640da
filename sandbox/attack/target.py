"""The two things that are attacked: a session of ours, and a plain container of the same image.

The plain one is what `docker run IMAGE` gives: root, a network, the engine's own filter, capabilities and
limits. Its only additions are our init as first program (so that programs are started the same way in both)
and that its output is not logged.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from policies import Policy
from sandbox import owner
from sandbox.attack.case import Kind
from sandbox.container.box import DockerSandbox
from sandbox.engine import Engine
from sandbox.hardening import INIT
from sandbox.image.initbinary import init_binary
from sandbox.lifecycle.opening import open_sandbox
from sandbox.protocol import SandboxSpec
from sandbox.wire.attach import Attachment
from sandbox.wire.channel import Channel

LEASE_S = 120.0
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(eq=False)
class Session:
    """One of ours, under a policy."""

    spec: SandboxSpec
    engine: Engine
    box: DockerSandbox
    runtime: str
    root: bool
    kind: Kind = "usermode"

    def fresh(self, **limits: Any) -> AbstractAsyncContextManager[DockerSandbox]:
        return opened(self.spec, self.engine, **limits)


@contextlib.asynccontextmanager
async def opened(spec: SandboxSpec, engine: Engine, **limits: Any) -> AsyncIterator[DockerSandbox]:
    policy = spec.policy.model_copy(update={"limits": spec.policy.limits.model_copy(update=limits)})
    changed = SandboxSpec(policy=policy, image=spec.image, runtime=spec.runtime)
    async with open_sandbox(changed, engine=engine) as box:
        yield box


@contextlib.asynccontextmanager
async def session(spec: SandboxSpec, engine: Engine) -> AsyncIterator[Session]:
    async with opened(spec, engine) as box:
        runtime = spec.runtime or spec.policy.container.runtime
        yield Session(spec, engine, box, runtime, spec.policy.container.user == "root")


@dataclass(eq=False)
class Plain:
    """A container as the engine starts it by default."""

    policy: Policy
    image: str
    engine: Engine
    box: DockerSandbox
    runtime: str = "runc"
    root: bool = True
    kind: Kind = "docker"

    def fresh(self, **limits: Any) -> AbstractAsyncContextManager[DockerSandbox]:
        return container(self.policy, self.image, self.engine)


@contextlib.asynccontextmanager
async def plain(spec: SandboxSpec, engine: Engine) -> AsyncIterator[Plain]:
    inside = spec.policy.container.model_copy(update={"user": "root"})
    policy = spec.policy.model_copy(update={"container": inside})
    image = spec.image or spec.policy.container.image
    async with container(policy, image, engine) as box:
        yield Plain(policy, image, engine, box)


@contextlib.asynccontextmanager
async def container(policy: Policy, image: str, engine: Engine) -> AsyncIterator[DockerSandbox]:
    facts = await engine.image(image)
    init = await init_binary(engine)
    name = f"usermode-plain-{secrets.token_hex(4)}"
    ref = await engine.create(_defaults(facts.id, str(init)), name)

    async def ended() -> None:
        await engine.remove(ref)

    async def detached() -> None:
        raise NotImplementedError("a plain container is never left running")

    try:
        channel = Channel(await Attachment.open(engine.address, ref))
        await engine.start(ref)
        await channel.greet(LEASE_S, again=False)
        box = DockerSandbox(ref, policy, channel, {"PATH": PATH, "HOME": "/root"}, ended, detached)
        try:
            yield box
        finally:
            await box.close()
    finally:
        await engine.remove(ref)


def _defaults(image_id: str, init: str) -> Mapping[str, Any]:
    return {
        "Image": image_id,
        "Entrypoint": [INIT],
        "Cmd": [],
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "OpenStdin": True,
        "StdinOnce": False,
        "Labels": {owner.SESSION: "attack-baseline", owner.OWNER: owner.this_process()},
        "HostConfig": {
            "AutoRemove": True,
            "LogConfig": {"Type": "none", "Config": {}},
            "Mounts": [{"Type": "bind", "Source": init, "Target": INIT, "ReadOnly": True}],
        },
    }
