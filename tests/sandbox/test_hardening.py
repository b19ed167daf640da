"""Every byte of the create request of each built-in profile, and what it does to a process inside.

`USERMODE_GOLDEN=write pytest tests/sandbox/test_hardening.py` writes the golden files again; read the diff
as what it is, a change of what sessions may do.
"""

from __future__ import annotations

import dataclasses
import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from policies import Policy, load
from policies.schema import Container, Sudo
from sandbox.engine import Engine
from sandbox.errors import SandboxRefused
from sandbox.hardening import ContainerSpec, container_config, sandbox_user

GOLDEN = Path(__file__).parent / "golden"
PROFILES = ("strict", "dev", "eval", "offline")

SPEC = ContainerSpec(
    policy=load("strict"),
    image_id="sha256:" + "0" * 64,
    image_config={},
    runtime="runc",
    uid=1000,
    gid=1000,
    init_path=Path("/cache/init"),
    workspace=Path("/state/session/workspace"),
    seccomp="THE PROFILE",
    labels={"usermode.session": "s"},
)


def spec_of(profile: str | Policy, **changes: Any) -> ContainerSpec:
    policy = profile if isinstance(profile, Policy) else load(profile)
    return dataclasses.replace(SPEC, policy=policy, **changes)


def with_container(**settings: Any) -> Policy:
    return SPEC.policy.model_copy(update={"container": Container(**settings)})


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("workspace", ["directory", "memory"])
def test_each_profile_is_spelled_as_its_golden_file_says(profile: str, workspace: str) -> None:
    changes = {} if workspace == "directory" else {"workspace": None}
    config = container_config(spec_of(profile, **changes))
    path = GOLDEN / f"{profile}-{workspace}.json"
    if os.environ.get("USERMODE_GOLDEN") == "write":
        path.write_text(json.dumps(config, indent=2) + "\n")
    assert config == json.loads(path.read_text())


def forbidden(config: Mapping[str, Any]) -> list[str]:
    """What no policy may ever bring about."""
    host = config["HostConfig"]
    wrong = []
    if host["Privileged"] or host["CapDrop"] != ["ALL"] or "no-new-privileges" not in host["SecurityOpt"]:
        wrong.append("privilege")
    if host["NetworkMode"] != "none" or not config["NetworkDisabled"]:
        wrong.append("network")
    if any(
        host.get(mode, "private") != "private" for mode in ("IpcMode", "CgroupnsMode", "PidMode", "UTSMode")
    ):
        wrong.append("namespace")
    if any(
        host.get(key)
        for key in ("Devices", "DeviceRequests", "DeviceCgroupRules", "Binds", "VolumesFrom", "Links")
    ):
        wrong.append("device or bind")
    if config["Tty"] or config["StdinOnce"] or config["Entrypoint"] != ["/.usermode/init"]:
        wrong.append("PID 1")
    if host["MemorySwap"] != host["Memory"] or not host["PidsLimit"] or not host["CpuQuota"]:
        wrong.append("limits")
    sources = {mount["Source"]: mount["ReadOnly"] for mount in host["Mounts"]}
    sources.pop(str(SPEC.workspace), None)
    if not all(sources.values()) or not all(source.startswith("/cache/") for source in sources):
        wrong.append("mounts")
    return wrong


def test_no_setting_of_a_policy_spells_anything_forbidden() -> None:
    for user in ("sandbox", "root"):
        for writable in (False, True):
            policy = with_container(
                user=user,
                writable_root=writable,
                seccomp="debug",
                capabilities=("CHOWN", "SETUID", "NET_BIND_SERVICE"),
            )
            for workspace in (SPEC.workspace, None):
                assert forbidden(container_config(spec_of(policy, workspace=workspace))) == []


def test_a_policy_widens_only_what_it_names() -> None:
    narrow = container_config(spec_of(with_container()))
    wide = container_config(
        spec_of(with_container(user="root", writable_root=True, capabilities=("FOWNER", "CHOWN")))
    )
    assert (narrow["User"], wide["User"]) == ("1000:1000", "0:0")
    assert wide["HostConfig"]["CapAdd"] == ["CHOWN", "FOWNER"]
    assert (narrow["HostConfig"]["ReadonlyRootfs"], wide["HostConfig"]["ReadonlyRootfs"]) == (True, False)
    wide["User"] = narrow["User"]
    for key in ("CapAdd", "ReadonlyRootfs", "Tmpfs"):
        wide["HostConfig"][key] = narrow["HostConfig"][key]
    assert wide == narrow


def test_root_commands_get_their_capabilities_by_way_of_a_first_process_that_lets_go_of_them() -> None:
    listed = ("SETUID", "CHOWN", "FOWNER", "DAC_OVERRIDE", "SETGID", "NET_BIND_SERVICE")
    config = container_config(spec_of(with_container(capabilities=listed), uid=1234, gid=5678))
    assert (config["User"], config["Cmd"]) == ("0:0", ["as", "1234", "5678", "4cb"])
    assert config["HostConfig"]["CapAdd"] == sorted({*listed, "KILL", "SETPCAP"})
    assert forbidden(config) == []
    # What it is for is root commands: without them, or without anything listed, nothing more is given.
    nobody = with_container(capabilities=listed).model_copy(update={"sudo": Sudo(may_ask=("network",))})
    for policy in (nobody, with_container()):
        config = container_config(spec_of(policy))
        assert (config["User"], config["Cmd"]) == ("1000:1000", [])
        assert config["HostConfig"]["CapAdd"] == sorted(policy.container.capabilities)


def test_nothing_of_the_images_environment_comes_along() -> None:
    image = {"Env": ["PATH=/evil", "LD_PRELOAD=/x.so", "BASH_ENV=/x", "=odd", "HOME=/root", "A=1=2"]}
    environment = container_config(spec_of("strict", image_config=image))["Env"]
    assert [entry for entry in environment if "=" not in entry] == ["A", "BASH_ENV", "LD_PRELOAD"]
    assert "PATH=/evil" not in environment
    assert "HOME=/home/sandbox" in environment


def test_a_declared_volume_is_refused_unless_something_bounded_covers_it() -> None:
    with pytest.raises(SandboxRefused, match="/var/lib/data"):
        container_config(spec_of("strict", image_config={"Volumes": {"/var/lib/data": {}, "/tmp": {}}}))
    container_config(spec_of("strict", image_config={"Volumes": {"/tmp": {}, "/workspace/": {}}}))


def test_root_never_gives_its_own_uid(monkeypatch: pytest.MonkeyPatch) -> None:
    for (uid, gid), expected in (
        ((0, 0), (1000, 1000)),
        ((1234, 100), (1234, 100)),
        ((1234, 0), (1234, 1000)),
    ):
        monkeypatch.setattr(os, "getuid", lambda uid=uid: uid)
        monkeypatch.setattr(os, "getgid", lambda gid=gid: gid)
        assert sandbox_user() == expected


PROBE = r"""
echo "id $(id -u):$(id -g) $(id -G)"
grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status | tr '\t' ' '
echo "net $(ls /sys/class/net | tr '\n' ' ')"
for place in / /etc /usr /bin /root /proc/sys/kernel /sys; do
    if : 2>/dev/null >"$place/usermode-probe"; then echo "WROTE $place"; fi
done
for place in /tmp /home/sandbox /workspace /dev/shm; do
    if : 2>/dev/null >"$place/usermode-probe"; then echo "writable $place"; fi
done
awk '{ print "mount", $5, $6 }' /proc/self/mountinfo
echo "limits $(ulimit -c) $(ulimit -n) $(cat /proc/self/oom_score_adj)"
echo "environment $(tr '\0' '\n' </proc/self/environ | sort | tr '\n' ' ')"
(exec 3<>/dev/tcp/127.0.0.1/9) 2>&1 | grep -o -m1 'Connection refused'
(exec 3<>/dev/tcp/192.0.2.1/80) 2>&1 | grep -o -m1 'Network is unreachable'
"""


@pytest.mark.docker
async def test_the_configuration_does_inside_what_it_says(tmp_path: Path) -> None:
    """Measured by a process in the real container; init and the wire have tests of their own."""
    (tmp_path / "init").write_text("")
    (tmp_path / "hosts").write_text("127.0.0.1 localhost\n")
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    workspace.chmod(0o777)
    engine = await Engine.connect()
    try:
        image = await engine.image("usermode/base")
        spec = spec_of(
            "strict",
            image_id=image.id,
            image_config={"Env": ["LD_PRELOAD=/x.so"]},
            init_path=tmp_path / "init",
            workspace=workspace,
            seccomp=json.dumps({"defaultAction": "SCMP_ACT_ALLOW"}),
        )
        config = container_config(spec)
        # The probe in init's place, and its output through the log.
        config["Entrypoint"] = ["/bin/bash", "-c", PROBE]
        config["HostConfig"].update({"LogConfig": {"Type": "json-file"}, "AutoRemove": False})
        _, out, err = await engine.run_once(config, f"usermode-test-{uuid.uuid4().hex[:12]}")
    finally:
        await engine.close()
    lines = out.decode().splitlines()
    assert "id 1000:1000 1000" in lines, err
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert f"{name}: 0000000000000000" in lines
    assert "NoNewPrivs: 1" in lines
    assert "Seccomp: 2" in lines
    assert "net lo " in lines
    assert not [line for line in lines if line.startswith("WROTE")]
    places = ["/tmp", "/home/sandbox", "/workspace", "/dev/shm"]
    assert [line for line in lines if line.startswith("writable")] == [
        f"writable {place}" for place in places
    ]
    assert f"limits 0 {spec.policy.limits.open_files} 500" in lines
    (environment,) = [line for line in lines if line.startswith("environment")]
    assert "LD_PRELOAD" not in environment
    assert lines[-2:] == ["Connection refused", "Network is unreachable"]
    mounts = {line.split()[1]: set(line.split()[2].split(",")) for line in lines if line.startswith("mount ")}
    assert "ro" in mounts["/"]
    for place in ("/tmp", "/home/sandbox", "/dev/shm"):
        assert {"rw", "nosuid", "nodev"} <= mounts[place]
    assert "ro" in mounts["/.usermode/init"]
    assert "ro" in mounts["/etc/hosts"]
    assert "/etc/resolv.conf" not in mounts
