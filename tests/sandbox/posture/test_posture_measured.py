"""A container that is weaker than its policy is found out from inside, and nothing runs in it."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from policies import load
from sandbox import SandboxSpec, open_sandbox
from sandbox.engine import Engine
from sandbox.errors import SandboxRefused
from sandbox.hardening import HOME
from sandbox.posture import expected, remembered
from sandbox.posture.check import measure
from sandbox.posture.compare import differences, questions
from sandbox.posture.facts import MOUNTS, NETWORK, STATUS, Answer
from sandbox.posture.sweep import attempts

pytestmark = pytest.mark.docker

Weaken = Callable[[dict[str, Any]], None]


@pytest.fixture(autouse=True)
def own_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Postures remembered here are of no other test; the init binary is."""
    monkeypatch.setattr(remembered, "cache_dir", lambda: tmp_path / "cache")


def host(**changes: Any) -> Weaken:
    return lambda config: config["HostConfig"].update(changes)


def bind(source: str, target: str) -> Weaken:
    return lambda config: config["HostConfig"]["Mounts"].append(
        {"Type": "bind", "Source": source, "Target": target, "ReadOnly": True}
    )


def bridged(config: dict[str, Any]) -> None:
    config["NetworkDisabled"] = False
    config["HostConfig"]["NetworkMode"] = "bridge"


def unfiltered(profile: str) -> Weaken:
    return host(SecurityOpt=["no-new-privileges", *([profile] if profile else [])])


def loose_tmp(config: dict[str, Any]) -> None:
    tmpfs = config["HostConfig"]["Tmpfs"]
    tmpfs["/tmp"] = tmpfs["/tmp"].replace("nosuid", "suid")


def large_home(config: dict[str, Any]) -> None:
    tmpfs = config["HostConfig"]["Tmpfs"]
    tmpfs[HOME] = tmpfs[HOME].replace("size=512m", "size=513m")


WEAKENED: dict[str, tuple[Weaken, str]] = {
    "no filter": (unfiltered("seccomp=unconfined"), "no seccomp filter is installed"),
    "the engine's own filter": (unfiltered(""), "is not refused"),
    "privileges to be gained": (
        lambda config: config["HostConfig"]["SecurityOpt"].remove("no-new-privileges"),
        "NoNewPrivs is not 1",
    ),
    "a capability": (host(CapAdd=["SYS_PTRACE"]), "CapBnd is 0000000000080000"),
    "the engine's own capabilities": (host(CapDrop=[]), "CapBnd is"),
    "privileged": (host(Privileged=True), "CapBnd is"),
    "a writable root": (host(ReadonlyRootfs=False), "the root is writable"),
    "a network": (bridged, "network devices: eth0 lo"),
    "the host's network": (
        lambda config: (bridged(config), config["HostConfig"].update(NetworkMode="host"))[0],
        "network devices",
    ),
    "the engine's socket": (bind("/var/run", "/var/run"), "something is mounted on /"),
    "a directory of the host": (bind("/etc", "/srv"), "something is mounted on /srv"),
    "the host's processes": (host(PidMode="host"), "the pid namespace is the host's"),
    "the host's shared memory": (host(IpcMode="host"), "the ipc namespace is the host's"),
    "the host's name": (
        lambda config: (config.pop("Hostname"), config["HostConfig"].update(UTSMode="host"))[1],
        "the uts namespace is the host's",
    ),
    "root": (lambda config: config.update(User="0:0"), "Uid is 0 0 0 0"),
    "a further group": (host(GroupAdd=["6"]), "further groups: 6"),
    "a device": (
        host(Devices=[{"PathOnHost": "/dev/null", "PathInContainer": "/dev/sda", "CgroupPermissions": "r"}]),
        "a device /dev/sda",
    ),
    "more memory": (host(Memory=4 << 30, MemorySwap=4 << 30), "the limit of memory is"),
    "more processes": (host(PidsLimit=5000), "the limit of pids is 5000"),
    "more processors": (host(CpuQuota=0), "cpu quota"),
    "core dumps": (host(Ulimits=[{"Name": "core", "Soft": 1, "Hard": 1}]), "Max core file size is 1 1"),
    "nothing masked": (host(MaskedPaths=[]), "is not masked"),
    "nothing held": (host(ReadonlyPaths=[]), "is not read-only"),
    "setuid in a writable place": (loose_tmp, "/tmp lacks nosuid"),
    "a larger place": (large_home, f"{HOME} holds"),
}


@pytest.mark.parametrize("weakness", WEAKENED)
async def test_a_weakened_container_is_refused_by_name(weakness: str, monkeypatch: pytest.MonkeyPatch):
    weaken, said = WEAKENED[weakness]
    create = Engine.create

    async def weakly(self: Engine, config: Mapping[str, Any], name: str) -> str:
        changed = copy.deepcopy(dict(config))
        weaken(changed)
        return await create(self, changed, name)

    monkeypatch.setattr(Engine, "create", weakly)
    with pytest.raises(SandboxRefused, match="not as configured") as refusal:
        async with open_sandbox(SandboxSpec(policy=load("strict"))):
            pass
    assert said in str(refusal.value)


async def test_a_posture_is_measured_once_and_seen_every_time(monkeypatch: pytest.MonkeyPatch):
    async with open_sandbox(SandboxSpec(policy=load("strict"))) as box:
        assert box.posture is not None
        assert not box.posture.cached
        assert box.posture.probes > 300
    async with open_sandbox(SandboxSpec(policy=load("strict"))) as box:
        assert box.posture is not None
        assert box.posture.cached
    # What was measured for one container does not speak for the next.
    create = Engine.create

    async def weakly(self: Engine, config: Mapping[str, Any], name: str) -> str:
        changed = copy.deepcopy(dict(config))
        changed["HostConfig"]["ReadonlyRootfs"] = False
        return await create(self, changed, name)

    monkeypatch.setattr(Engine, "create", weakly)
    with pytest.raises(SandboxRefused, match="the root is writable"):
        async with open_sandbox(SandboxSpec(policy=load("strict"))):
            pass


@contextlib.asynccontextmanager
async def engine_of() -> AsyncIterator[Engine]:
    engine = await Engine.connect()
    yield engine
    await engine.close()


CHANGED: dict[str, tuple[str, Answer | Callable[[bytes], bytes], str]] = {
    "a filter gone": (f"r {STATUS}", lambda text: text.replace(b"Seccomp:\t2", b"Seccomp:\t0"), "no seccomp"),
    "capabilities": (
        f"r {STATUS}",
        lambda text: text.replace(b"CapEff:\t0000", b"CapEff:\t0001"),
        "CapEff is 0001",
    ),
    "no status": (f"r {STATUS}", Answer(2), "Uid is"),
    "a socket": (
        f"r {MOUNTS}",
        lambda text: text + b"1 1 0:1 /docker.sock /run/docker.sock rw - ext4 /dev/vda rw\n",
        "something is mounted on /run/docker.sock",
    ),
    "a second mount on top": (
        f"r {MOUNTS}",
        lambda text: text + b"1 1 0:1 / /tmp rw,nosuid,nodev - tmpfs tmpfs rw\n",
        "two mounts on /tmp",
    ),
    "a mount table that is none": (f"r {MOUNTS}", Answer(0, b"x\n"), "mount table could not be measured"),
    "a network device": (f"r {NETWORK}", lambda text: text + b" eth0: 0\n", "network devices: eth0 lo"),
    "an open call": ("mount", Answer(14), "mount is not refused (errno 14)"),
    "a call that kills": ("getpid of x32", Answer(1004), "is not refused (signal 4)"),
    "a call that works": (
        "socket of family 38, type 5",
        Answer(0),
        "family 38, type 5 is not refused (it succeeded)",
    ),
    "a mask that is no null device": ("s /proc/keys", Answer(0, b"20666 1 5 2 0 0"), "by device 1:5"),
    "a file made in the root": ("c /.usermode-posture", Answer(0), "a file can be made in /"),
    "a switch": ("w /proc/sys/kernel/core_pattern", Answer(0), "can be opened for writing"),
    "the wire": ("k /proc/1/fd/0", Answer(0, b"pipe:[1]"), "the wire of PID 1"),
    "a disk": ("l /dev", lambda text: text + b"vda 60660 254 0\n", "a device /dev/vda (254:0)"),
    "another kernel": ("r /proc/version", Answer(0, b"Linux version 1.0 x"), "the kernel is 1.0"),
}


async def test_every_change_of_what_was_measured_is_a_difference():
    policy = load("strict")
    async with open_sandbox(SandboxSpec(policy=policy)) as box, engine_of() as engine:
        config = await engine.inspect(box.ref)
        request = {"User": config["Config"]["User"], "HostConfig": config["HostConfig"]}
        want = expected(policy, request, "runc")
        found = await measure(box, questions(want))
    assert differences(want, found) == []
    for question in found:
        # Only a masked directory has to be listed.
        if not question.startswith("l /") or question == "l /dev" or found[question].error == 0:
            without = {key: answer for key, answer in found.items() if key != question}
            assert differences(want, without), question
    asked = {attempt.name: attempt.question for attempt in attempts(want.seccomp, want.machine)}
    for name, (named, change, said) in CHANGED.items():
        question = asked.get(named, named)
        answer = change if isinstance(change, Answer) else Answer(0, change(found[question].data))
        told = differences(want, {**found, question: answer})
        assert any(said in one for one in told), (name, told)
