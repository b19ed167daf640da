"""The doctor's judgement over facts of machines good and bad, and over the real one."""

from __future__ import annotations

import dataclasses
import gzip
from pathlib import Path
from typing import Any, cast

import pytest

from sandbox.address import EngineAddress
from sandbox.doctor import Facts, Finding, examine, findings
from sandbox.doctor.advisories import ADVISORIES, affected, mended_by_distribution, open_holes, parse
from sandbox.engine import Engine
from sandbox.errors import EngineFailed
from sandbox.runtime import GVisor

GOOD = Facts(
    address="/var/run/docker.sock",
    local=True,
    version={
        "Version": "29.1.0",
        "ApiVersion": "1.52",
        "Components": [
            {"Name": "Engine", "Version": "29.1.0", "Details": {}},
            {"Name": "containerd", "Version": "v2.2.1", "Details": {"GitCommit": "abc"}},
            {"Name": "runc", "Version": "1.4.0", "Details": {"GitCommit": "def"}},
        ],
    },
    info={
        "KernelVersion": "6.12.1",
        "CgroupVersion": "2",
        "CgroupDriver": "systemd",
        "MemoryLimit": True,
        "PidsLimit": True,
        "CpuCfsQuota": True,
        "SwapLimit": True,
        "SecurityOptions": ["name=apparmor", "name=seccomp,profile=builtin", "name=cgroupns"],
        "Driver": "overlay2",
        "Runtimes": {"runc": {}, "runsc": {}},
    },
    gvisor=GVisor("/usr/bin/runsc", {"oci-seccomp": "true"}, 20250101),
    images={"base": "current", "dev": "current"},
    init=True,
    free_gb={"usermode": 100.0},
)


def judged(**info: Any) -> dict[str, Finding]:
    """By name, for the good machine with some of its engine's answers changed."""
    changed = dataclasses.replace(GOOD, info={**GOOD.info, **info})
    return {one.name: one for one in findings(changed)}


def test_a_good_machine_has_nothing_to_complain_of_and_everything_is_explained() -> None:
    found = findings(GOOD)
    assert [one for one in found if one.status != "ok"] == []
    assert all(one.value and one.meaning.endswith(".") for one in found)
    assert len({one.name for one in found}) == len(found)


@pytest.mark.parametrize(
    ("info", "name", "status"),
    [
        ({"MemoryLimit": False}, "cgroups", "fail"),
        ({"PidsLimit": False}, "cgroups", "fail"),
        ({"CpuCfsQuota": False}, "cgroups", "fail"),
        ({"SecurityOptions": ["name=apparmor"]}, "seccomp", "fail"),
        ({"SecurityOptions": ["name=seccomp,profile=default"]}, "LSM", "warn"),
        ({"SwapLimit": False}, "swap", "warn"),
        ({"Driver": "vfs"}, "storage", "warn"),
    ],
)
def test_what_an_engine_lacks_is_found(info: dict[str, Any], name: str, status: str) -> None:
    found = judged(**info)
    assert found[name].status == status
    assert [one.name for one in found.values() if one.status != "ok"] == ([name] if status != "ok" else [])


def test_a_gvisor_is_named_with_its_age_and_judged() -> None:
    def of(found: GVisor | None) -> Finding:
        return {one.name: one for one in findings(dataclasses.replace(GOOD, gvisor=found))}["gVisor"]

    assert (of(None).status, of(None).value) == ("ok", "not installed")
    assert (of(GOOD.gvisor).status, of(GOOD.gvisor).value) == ("ok", "20250101, platform systrap")
    old = of(GVisor("/usr/bin/runsc", {"oci-seccomp": "true"}, 20221219))
    assert old.status == "warn"
    assert "20221219" in old.meaning
    assert "--oci-seccomp" in of(GVisor("runsc", {}, 20250101)).meaning


def test_who_a_uid_is_outside_is_said() -> None:
    assert judged(SecurityOptions=["name=seccomp", "name=rootless"])["users"].value == "rootless engine"
    assert judged(SecurityOptions=["name=seccomp", "name=userns"])["users"].value == "remapped"
    assert judged()["users"].value == "not remapped"


def test_an_engine_elsewhere_cannot_hold_sessions() -> None:
    (engine, *_) = findings(dataclasses.replace(GOOD, local=False, address="203.0.113.1:2376"))
    assert (engine.name, engine.status) == ("engine", "fail")


def test_images_init_and_disk_are_judged() -> None:
    facts = dataclasses.replace(
        GOOD,
        images={"base": "missing", "dev": "outdated"},
        init=False,
        no_exact_disk="you are not root",
        free_gb={"usermode": 3.0, "containers": 0.2},
    )
    found = {one.name: one for one in findings(facts) if one.status != "ok"}
    assert {name: one.status for name, one in found.items()} == {
        "disk limit": "warn",
        "init": "warn",
        "image usermode/base": "warn",
        "image usermode/dev": "warn",
        "free disk for usermode": "warn",
        "free disk for containers": "fail",
    }
    assert "usermode image build" in found["image usermode/base"].meaning
    assert "you are not root" in found["disk limit"].meaning


def test_answers_without_the_expected_fields_are_judged_as_lacking() -> None:
    found = {one.name: one.status for one in findings(dataclasses.replace(GOOD, version={}, info={}))}
    assert found["cgroups"] == found["seccomp"] == "fail"


def test_open_holes_are_named_and_mended_ones_are_not() -> None:
    old = [{"Name": "runc", "Version": "1.1.5+ds1", "Details": {"GitCommit": "1.1.5+ds1-1+deb12u1"}}]
    facts = dataclasses.replace(GOOD, version={"Components": old})
    (runc,) = [one for one in findings(facts) if one.name == "runc"]
    assert runc.status == "warn"
    assert "CVE-2024-21626" in runc.meaning
    assert "CVE-2025-31133" in runc.meaning
    mended = dataclasses.replace(facts, mended={"runc": frozenset({"CVE-2024-21626"})})
    (runc,) = [one for one in findings(mended) if one.name == "runc"]
    assert "CVE-2024-21626" not in runc.meaning
    assert "CVE-2025-31133" in runc.meaning


@pytest.mark.parametrize(
    ("id", "version", "is_open"),
    [
        ("CVE-2024-21626", "1.1.11", True),
        ("CVE-2024-21626", "1.1.12", False),
        ("CVE-2024-21626", "1.2.0", False),
        ("CVE-2025-31133", "1.2.7", True),
        ("CVE-2025-31133", "1.2.8", False),
        ("CVE-2025-31133", "1.3.2", True),
        ("CVE-2025-31133", "1.3.3", False),
        ("CVE-2025-31133", "1.1.15", True),
        ("CVE-2025-31133", "1.5.0", False),
        ("CVE-2024-29018", "20.10.24+dfsg1", True),
        ("CVE-2024-29018", "23.0.11", False),
        ("CVE-2024-29018", "24.0.9", True),
        ("CVE-2024-29018", "25.0.5", False),
        ("CVE-2024-29018", "27.3.1", False),
        ("CVE-2022-24769", "20.10.13", True),
        ("CVE-2022-24769", "20.10.24", False),
        ("CVE-2024-25621", "v1.6.36", True),
        ("CVE-2024-25621", "2.1.5", False),
    ],
)
def test_each_release_branch_has_its_own_first_mended_version(id: str, version: str, is_open: bool) -> None:
    (advisory,) = [one for one in ADVISORIES if one.id == id]
    assert (advisory in open_holes(advisory.component, version)) is is_open


def test_versions_are_read_and_what_is_no_version_is_not_guessed() -> None:
    assert parse("1.1.5+ds1") == (1, 1, 5)
    assert parse("v2.2.1") == (2, 2, 1)
    assert parse("unknown") is None
    assert open_holes("runc", "") == []
    candidate = parse("1.2.8-rc.1")
    assert candidate is not None
    (advisory,) = [one for one in ADVISORIES if one.id == "CVE-2025-31133"]
    assert affected(advisory, candidate)


def test_the_packages_changelog_says_what_the_distribution_mended(tmp_path: Path) -> None:
    assert mended_by_distribution("runc", tmp_path) == frozenset()
    (tmp_path / "runc").mkdir()
    changelog = tmp_path / "runc" / "changelog.Debian.gz"
    changelog.write_bytes(gzip.compress(b"  * CVE-2024-21626: several breakouts\n  * Fix CVE-2025-31133.\n"))
    assert mended_by_distribution("runc", tmp_path) == {"CVE-2024-21626", "CVE-2025-31133"}
    changelog.write_bytes(b"not gzip")
    assert mended_by_distribution("runc", tmp_path) == frozenset()
    changelog.write_bytes(gzip.compress(b"CVE-2024-21626")[:12])
    assert mended_by_distribution("runc", tmp_path) == frozenset()


async def test_no_engine_is_a_finding() -> None:
    (only,) = await examine(None)
    assert (only.status, only.value) == ("fail", "none answers")
    assert "make engine" in only.meaning


async def test_an_engine_that_stops_answering_is_a_finding() -> None:
    class Dying:
        address = EngineAddress("unix", path="/x")
        is_local = True

        async def fails(self, *_: object) -> None:
            raise EngineFailed("the engine did not answer in time")

        version = info = image = fails

    (only,) = await examine(cast(Engine, Dying()))
    assert (only.status, only.meaning) == ("fail", "the engine did not answer in time")


@pytest.mark.docker
async def test_this_engine_can_hold_sessions() -> None:
    engine = await Engine.connect()
    try:
        found = await examine(engine)
    finally:
        await engine.close()
    assert [one for one in found if one.status == "fail"] == []
    names = {one.name for one in found}
    assert {
        "engine",
        "docker",
        "containerd",
        "runc",
        "kernel",
        "cgroups",
        "seccomp",
        "LSM",
        "disk limit",
    } <= names
