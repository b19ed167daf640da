"""Which runtime a session gets, and the refusal of every gVisor that would not keep what is promised."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from errno import EFAULT, EINVAL
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, cast

import pytest

from policies import Policy, load
from policies.schema import Container
from sandbox import SandboxSpec, open_sandbox
from sandbox.engine import Engine
from sandbox.errors import SandboxRefused
from sandbox.posture.compare import identity, kernel
from sandbox.posture.expected import Expected
from sandbox.posture.facts import STATUS, Answer
from sandbox.runtime import GVisor, Runtime, arguments_of, dated, gvisor, usable

SET_UP = ("--network=none", "--platform=systrap", "--oci-seccomp", "--overlay2=none")


class Asked:
    """An engine that only says which runtimes it knows."""

    def __init__(self, runtimes: Mapping[str, Any]) -> None:
        self._runtimes = runtimes

    async def info(self) -> dict[str, Any]:
        return {"Runtimes": self._runtimes}


def engine_with(program: Path | None, *arguments: str) -> Engine:
    runsc = {"runsc": {"path": str(program), "runtimeArgs": list(arguments)}} if program else {}
    return cast("Engine", Asked({"runc": {"path": "runc"}, **runsc}))


def policy_of(**settings: Any) -> Policy:
    return load("strict").model_copy(update={"container": Container(**settings)})


@pytest.fixture
def runsc(tmp_path: Path) -> Path:
    """A program that says of itself what a build of July 2024 says."""
    return saying(tmp_path, "runsc version release-20240729.0\nspec: 1.2.0")


def saying(directory: Path, text: str) -> Path:
    program = directory / "runsc"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\n")
    program.chmod(0o755)
    return program


async def test_runc_is_taken_without_a_question() -> None:
    assert await usable(cast("Engine", None), None, load("strict")) == "runc"


@pytest.mark.parametrize("asked", [None, "runsc"])
async def test_a_good_gvisor_is_taken(runsc: Path, asked: Runtime | None) -> None:
    policy = policy_of(runtime="runc" if asked else "runsc")
    assert await usable(engine_with(runsc, *SET_UP), asked, policy) == "runsc"


async def test_an_engine_without_gvisor_is_told_how_to_get_it() -> None:
    with pytest.raises(SandboxRefused, match=r"no runtime runsc.*make engine GVISOR=1"):
        await usable(engine_with(None), "runsc", load("strict"))


@pytest.mark.parametrize("said", ["runsc version 0.0~20221219.0", "runsc version release-20231211.0"])
async def test_a_build_too_old_for_coreutils_is_refused_by_name(tmp_path: Path, said: str) -> None:
    old = saying(tmp_path, f"{said}\nspec: 1.0.2-dev")
    with pytest.raises(SandboxRefused, match=r"it is of 202\d{5}, .*ls or stat; `make engine GVISOR=1`"):
        await usable(engine_with(old, *SET_UP), "runsc", load("strict"))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--network=none",), "without --oci-seccomp"),
        (("--oci-seccomp=false",), "without --oci-seccomp"),
        ((*SET_UP, "--network=host"), "--network=host"),
        ((*SET_UP, "--platform", "kvm"), "--platform=kvm"),
        ((*SET_UP, "-host-uds=open"), "--host-uds=open"),
        ((*SET_UP, "--allow-flag-override"), "--allow-flag-override=true"),
        ((*SET_UP, "--nvproxy=1"), "--nvproxy=true"),
    ],
)
async def test_arguments_that_make_it_less_than_a_sandbox_are_refused(
    runsc: Path, arguments: tuple[str, ...], named: str
) -> None:
    with pytest.raises(SandboxRefused, match=named):
        await usable(engine_with(runsc, *arguments), "runsc", load("strict"))


async def test_too_few_descriptors_for_gvisor_itself_are_refused_by_name(runsc: Path) -> None:
    policy = load("strict")
    small = policy.model_copy(update={"limits": policy.limits.model_copy(update={"open_files": 256})})
    with pytest.raises(SandboxRefused, match=r"limits\.open_files is at least 1024"):
        await usable(engine_with(runsc, *SET_UP), "runsc", small)


@pytest.mark.parametrize(
    ("required", "runtime", "asked", "refused"),
    [
        ("runsc", "runc", None, True),
        ("runsc", "runsc", "runc", True),
        ("runc", "runsc", None, True),
        ("runsc", "runsc", None, False),
        ("runsc", "runc", "runsc", False),
        ("runc", "runc", None, False),
    ],
)
async def test_a_required_runtime_is_had_or_nothing_starts(
    runsc: Path, required: Runtime, runtime: Runtime, asked: Runtime | None, refused: bool
) -> None:
    policy = policy_of(require_runtime=required, runtime=runtime)
    if refused:
        with pytest.raises(SandboxRefused, match=f"requires the runtime {required}"):
            await usable(engine_with(runsc, *SET_UP), asked, policy)
    else:
        assert await usable(engine_with(runsc, *SET_UP), asked, policy) == required


@pytest.mark.docker
@pytest.mark.parametrize("asked", ["runc", None])
async def test_a_session_that_lacks_its_required_runtime_does_not_open(
    asked: Literal["runc"] | None,
) -> None:
    policy = policy_of(require_runtime="runsc")
    with pytest.raises(SandboxRefused, match="say --runtime runsc"):
        async with open_sandbox(SandboxSpec(policy=policy, runtime=asked)):
            raise AssertionError("it opened")


@pytest.mark.parametrize(
    ("text", "date"),
    [
        ("runsc version release-20240729.0", 20240729),
        ("runsc version 0.0~20240729.0\nspec: 1.2.0", 20240729),
        ("runsc version VERSION_MISSING\nbuilt 20240729", None),
        ("", None),
    ],
)
def test_a_builds_date_is_read_from_what_it_says(text: str, date: int | None) -> None:
    assert dated(text) == date


async def test_a_program_that_cannot_be_asked_has_no_date_and_no_guess(tmp_path: Path) -> None:
    engine = engine_with(tmp_path / "missing", *SET_UP)
    found = await gvisor(await engine.info())
    assert found == GVisor(str(tmp_path / "missing"), arguments_of(SET_UP), None)
    assert found is not None
    assert (found.fault, found.shown) == (None, "of unknown age, platform systrap")


@pytest.mark.parametrize(("error", "differences"), [(EFAULT, 0), (EINVAL, 1)])
def test_a_kernel_that_cannot_run_ls_is_seen_by_what_it_does_whatever_its_age(
    error: int, differences: int
) -> None:
    want = cast("Expected", SimpleNamespace(runtime="runsc", kernel="6.1.0", machine="x86_64"))
    found = defaultdict(lambda: Answer(error), {"r /proc/version": Answer(0, b"Linux version 4.4.0")})
    assert len([one for one in kernel(want, found) if "ls and stat" in one]) == differences


@pytest.mark.parametrize(
    ("runtime", "pid", "differences"), [("runsc", 1, 0), ("runsc", 7, 1), ("runc", 1, 1)]
)
def test_only_gvisors_pid_1_may_be_root_in_name(runtime: Runtime, pid: int, differences: int) -> None:
    want = cast("Expected", SimpleNamespace(runtime=runtime, uid=1000, gid=1000))
    text = f"Name:\tinit\nPid:\t{pid}\nUid:\t0\t1000\t0\t1000\nGid:\t1000\t1000\t1000\t1000\nGroups:\t1000\n"
    assert len(list(identity(want, {f"r {STATUS}": Answer(0, text.encode())}))) == differences
