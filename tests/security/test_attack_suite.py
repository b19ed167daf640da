"""`usermode attack`: a session holds, a plain container does not, and a blind suite would be noticed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from in_process import usermode_here

from policies import load
from sandbox import SandboxSpec
from sandbox.attack import Result, attack, known
from sandbox.attack.case import Failed, Program
from sandbox.attack.elsewhere import ELSEWHERE
from sandbox.attack.suite import CASES, tried
from sandbox.attack.target import plain, session
from sandbox.engine import Engine

DOCKER_LETS_THROUGH = {
    *("A01", "A02", "A03", "A04", "A05", "A06", "A09", "A11", "A24", "A29", "A33", "A39"),
    *("B01", "B02", "B03", "B04", "B05"),
}
"""By the engine's own defaults, whatever its version and its network."""
ROOT = Path(__file__).parents[2]
NETWORK = {"N01", "N03", "N04", "N05", "N06", "N07"}
"""Where the engine has a network to give."""


@pytest.fixture
async def engine():
    one = await Engine.connect()
    yield one
    await one.close()


@pytest.mark.docker
@pytest.mark.timeout(600)  # On gVisor a minute and a half, by itself.
async def test_nothing_gets_out_of_a_strict_session_and_much_out_of_a_plain_container(engine, runtime):
    spec = SandboxSpec(policy=load("strict"), runtime=runtime)
    here = {one.id: one async for one in attack(spec, engine)}
    there = {one.id: one async for one in attack(spec, engine, baseline=True)}
    assert {one.id: one.evidence for one in here.values() if one.outcome in ("breached", "failed")} == {}
    assert {one.id: one.evidence for one in there.values() if one.outcome == "failed"} == {}
    assert sum(one.outcome == "held" for one in here.values()) >= 60
    assert {one.id for one in there.values() if one.outcome == "breached"} >= DOCKER_LETS_THROUGH
    assert all(one.evidence for one in there.values() if one.outcome != "held")
    if there["N03"].outcome == "breached":
        assert {one.id for one in there.values() if one.outcome == "breached"} >= NETWORK - {"N01"}
    assert set(here) == set(there) == known()


@pytest.mark.docker
async def test_root_inside_gets_no_further(engine, runtime):
    cases = [case for case in CASES if case.id.startswith(("A", "P"))]
    async with session(SandboxSpec(policy=load("eval"), runtime=runtime), engine) as target:
        results = [await tried(case, target) for case in cases]
    assert [one for one in results if one.outcome in ("breached", "failed")] == []


@pytest.mark.docker
async def test_an_attack_that_goes_wrong_is_not_a_wall_that_held(engine, runtime):
    async with session(SandboxSpec(policy=load("strict"), runtime=runtime), engine) as target:
        with pytest.raises(Failed, match="ZeroDivisionError"):
            await Program("1 / 0")(target)
        assert await Program("tried('all is well', opened, '/dev/null')")(target) == ["all is well"]
        broken = CASES[0].__class__("X01", "broken", Program("1 / 0"))
        assert (await tried(broken, target)).outcome == "failed"


@pytest.mark.docker
async def test_a_plain_container_is_what_the_engine_gives(engine, runtime):
    async with plain(SandboxSpec(policy=load("strict"), runtime=runtime), engine) as target:
        facts = await engine.inspect(target.box.ref)
    host = facts["HostConfig"]
    assert (host["Privileged"], host["ReadonlyRootfs"], host["CapDrop"], host["CapAdd"]) == (
        False,
        False,
        None,
        None,
    )
    assert not host["SecurityOpt"]
    assert not host["Memory"]
    assert facts["Config"]["User"] == ""
    with pytest.raises(KeyError):
        await engine.inspect(target.box.ref)


def test_every_attack_of_the_page_is_tried_or_has_a_reason():
    page = (ROOT / "docs" / "attacks.md").read_text()
    listed = {
        identity
        for line in page.splitlines()
        if line.startswith("| ") and line[2:3] in "ABCNSP" and line[3:5].isdigit()
        for identity in _ids(line.split("|")[1])
    }
    assert len(listed) > 60
    assert listed <= known()
    assert {case.id for case in CASES}.isdisjoint(ELSEWHERE)


def _ids(cell: str) -> list[str]:
    """`A22 to A27, A29`"""
    found = []
    for part in cell.strip().split(", "):
        first, _, last = part.partition(" to ")
        found += [f"{first[0]}{number:02}" for number in range(int(first[1:]), int((last or first)[1:]) + 1)]
    return found


def usermode(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness", *argv],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.docker
def test_the_command_says_it_in_a_table_and_in_json():
    table = usermode("attack", "--only", "A05,P01", "--only", "C09", "--baseline", "docker")
    assert table.returncode == 0, table.stderr
    assert "A05  held      writing" in table.stdout
    assert "C09: is tried on a whole session" in table.stdout
    assert "A05  held      BREACHED  writing" in table.stdout
    assert table.stdout.splitlines()[-2:] == [
        "strict on runc: 2 cases, 0 breaches (1 not tried)",
        "plain docker: 1 case, 1 breach (2 not tried)",
    ]
    told = usermode("attack", "--only", "A05", "--baseline", "docker", "--json")
    first, second = (json.loads(line) for line in told.stdout.splitlines())
    assert (first["target"], first["id"], first["outcome"]) == ("strict on runc", "A05", "held")
    assert (second["target"], second["outcome"]) == ("plain docker", "breached")


@pytest.mark.parametrize("words", [["--only", "Z99"], ["--baseline", "podman"], ["--runtime", "kata"]])
def test_what_cannot_be_tried_is_said_at_once(words: list[str]):
    said = usermode_here("attack", *words, cwd=ROOT, environ=os.environ)
    assert said.returncode == 2
    assert words[1] in said.stderr


def test_a_result_is_a_plain_value():
    assert Result("A01", "t", "held").evidence == ()
