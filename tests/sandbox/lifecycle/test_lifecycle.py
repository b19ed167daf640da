"""Opening, leaving, returning to and losing a sandbox, on a real engine."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from policies import Policy, load
from sandbox import Command, SandboxSpec, attach_sandbox, open_sandbox, owner
from sandbox.engine import Engine
from sandbox.errors import ImageMissing, SandboxGone, SandboxRefused
from sandbox.lifecycle.reaper import reap
from sandbox.lifecycle.record import RECORD
from sandbox.wire.channel import GREETING_S

pytestmark = pytest.mark.docker
GONE_S = 20.0


def strict(**limits: float) -> Policy:
    policy = load("strict")
    return policy.model_copy(update={"limits": policy.limits.model_copy(update=limits)})


def sh(script: str, **rest: object) -> Command:
    return replace(Command(("sh", "-c", script)), **rest)  # type: ignore[arg-type]


@pytest.fixture
async def session(engine: Engine, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """A session name whose containers are gone after the test, whatever happened."""
    name = f"test-{abs(hash(request.node.name)) % 10**10}"
    yield name
    for facts in await engine.containers({owner.SESSION: name}):
        await engine.remove(facts["Id"])


async def containers(engine: Engine, session: str) -> int:
    return len(await engine.containers({owner.SESSION: session}))


async def until_gone(engine: Engine, session: str) -> None:
    async with asyncio.timeout(GONE_S):
        while await containers(engine, session):
            await asyncio.sleep(0.1)


async def test_a_session_leaves_nothing_behind(engine: Engine, session: str, tmp_path: Path) -> None:
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "file").write_text("x")
    volumes = [one["Name"] for one in (await engine._call(lambda c: c.volumes()))["Volumes"] or []]
    spec = SandboxSpec(strict(), workspace=tmp_path / "w", state=tmp_path / "state", session=session)
    async with open_sandbox(spec, engine=engine) as box:
        assert (await box.run(sh("cat file; echo more > file"))).stdout == b"x"
        assert await containers(engine, session) == 1
    assert await containers(engine, session) == 0
    assert [one["Name"] for one in (await engine._call(lambda c: c.volumes()))["Volumes"] or []] == volumes
    assert not (tmp_path / "state" / RECORD).exists()
    assert (tmp_path / "w" / "file").read_text() == "x"
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


async def test_a_detached_sandbox_runs_on_and_its_results_wait(
    engine: Engine, session: str, tmp_path: Path
) -> None:
    spec = SandboxSpec(strict(), state=tmp_path, session=session)
    async with open_sandbox(spec, engine=engine) as box:
        quick = await box.start(sh("echo quick; exit 5"))
        slow = await box.start(sh("echo begun; sleep 1; echo ended; exit 7"))
        large = await box.start(sh("head -c 300000 /dev/zero", output_bytes=1 << 20))
        ref = await box.detach()
    async with attach_sandbox(ref, engine=engine) as box:
        first, second = await box.result(quick), await box.result(slow)
        assert (first.exit_code, first.stdout) == (5, b"quick\n")
        assert (second.exit_code, second.stdout) == (7, b"begun\nended\n")
        assert (await box.result(large)).stdout == bytes(300_000)
    assert await containers(engine, session) == 0
    with pytest.raises(SandboxGone):
        async with attach_sandbox(ref, engine=engine):
            pass


async def test_a_kept_result_stays_until_it_is_released(engine: Engine, session: str, tmp_path: Path) -> None:
    async with open_sandbox(SandboxSpec(strict(), state=tmp_path, session=session), engine=engine) as box:
        call = await box.start(sh("echo once >> /tmp/count; cat /tmp/count"))
        assert (await box.result(call, keep=True)).stdout == b"once\n"
        ref = await box.detach()
    async with attach_sandbox(ref, engine=engine) as box:
        assert (await box.result(call, keep=True)).stdout == b"once\n"
        await box.release(call)
        with pytest.raises(KeyError):
            await box.result(call)
        assert await box.read_file("/tmp/count") == b"once\n"


HARNESS = """
import asyncio, sys
from pathlib import Path
from policies import load
from sandbox import Command, SandboxSpec, open_sandbox

async def main():
    policy = load("strict")
    limits = policy.limits.model_copy(update={"orphan_s": float(sys.argv[3])})
    policy = policy.model_copy(update={"limits": limits})
    spec = SandboxSpec(policy, state=Path(sys.argv[1]), session=sys.argv[2])
    async with open_sandbox(spec) as box:
        call = await box.start(Command(("sh", "-c", "echo x >> /tmp/ran; sleep 1.5; echo finished; exit 9")))
        print(box.ref, call, flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


async def killed_harness(state: Path, session: str, orphan_s: float) -> tuple[str, str]:
    """A harness that is killed in the middle of a command: the container and the call it leaves."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HARNESS, str(state), session, str(orphan_s), stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    ref, call = (await child.stdout.readline()).decode().split()
    child.send_signal(signal.SIGKILL)
    await child.wait()
    return ref, call


async def test_the_result_of_a_killed_harness_is_adopted(
    engine: Engine, session: str, tmp_path: Path
) -> None:
    ref, call = await killed_harness(tmp_path, session, 60)
    async with attach_sandbox(ref, engine=engine) as box:
        done = await box.result(call)
        assert (done.exit_code, done.stdout) == (9, b"finished\n")
        assert await box.read_file("/tmp/ran") == b"x\n"


async def test_a_container_without_a_harness_ends_by_itself(
    engine: Engine, session: str, tmp_path: Path
) -> None:
    await killed_harness(tmp_path, session, 2)
    await until_gone(engine, session)


def others(tmp_path: Path) -> Callable[[Path], bool]:
    """Orphans that tests beside this one have left on the engine: somebody comes for them."""
    return lambda state: tmp_path.resolve() not in (state, *state.parents)


async def test_the_reaper_takes_orphans_and_leaves_what_is_in_use(
    engine: Engine, session: str, tmp_path: Path
) -> None:
    await killed_harness(tmp_path / "dead", session, 600)
    spec = SandboxSpec(strict(), state=tmp_path / "alive", session=f"{session}-alive")
    async with open_sandbox(spec, engine=engine) as box:
        removed = await reap(engine, tmp_path, resumable=others(tmp_path))
        assert (session, "container") in {(one.session, one.what) for one in removed}
        assert f"{session}-alive" not in {one.session for one in removed}
        assert await containers(engine, session) == 0
        assert (await box.run(sh("echo alive"))).stdout == b"alive\n"


async def test_the_reaper_leaves_what_was_detached(engine: Engine, session: str, tmp_path: Path) -> None:
    async with open_sandbox(SandboxSpec(strict(), state=tmp_path, session=session), engine=engine) as box:
        ref = await box.detach()
    await reap(engine, tmp_path, resumable=others(tmp_path))
    async with attach_sandbox(ref, engine=engine) as box:
        assert (await box.run(sh("echo here"))).stdout == b"here\n"


async def test_a_container_killed_from_outside_is_a_lost_sandbox_not_a_failed_command(engine: Engine) -> None:
    async with open_sandbox(SandboxSpec(strict()), engine=engine) as box:
        running = asyncio.create_task(box.run(sh("sleep 60")))
        await asyncio.sleep(0.2)
        await engine.remove(box.ref)
        with pytest.raises(SandboxGone):
            async with asyncio.timeout(GONE_S):
                await running
        with pytest.raises(SandboxGone):
            await box.read_file("/etc/passwd")


async def test_an_image_that_is_not_there_and_one_that_is_no_name(engine: Engine) -> None:
    with pytest.raises(ImageMissing, match="usermode image build"):
        async with open_sandbox(SandboxSpec(strict(), image="usermode/nosuch"), engine=engine):
            pass
    with pytest.raises(SandboxRefused):
        async with open_sandbox(SandboxSpec(strict(), image="--privileged"), engine=engine):
            pass


async def test_a_start_that_the_engine_refuses_is_said_at_once_and_leaves_nothing(
    engine: Engine, session: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = Engine.create

    async def unstartable(self: Engine, config: Mapping[str, Any], name: str) -> str:
        return await create(self, {**config, "Entrypoint": ["/no/such/program"]}, name)

    monkeypatch.setattr(Engine, "create", unstartable)
    spec = SandboxSpec(strict(), session=session, state=tmp_path / "state")
    with pytest.raises(SandboxRefused, match="/no/such/program"):
        async with asyncio.timeout(GREETING_S), open_sandbox(spec, engine=engine):
            pass
    assert await containers(engine, session) == 0
    assert not (tmp_path / "state" / RECORD).exists()


async def test_a_cancelled_open_leaves_no_container(engine: Engine, session: str, tmp_path: Path) -> None:
    async def opening() -> None:
        async with open_sandbox(SandboxSpec(strict(), session=session), engine=engine):
            await asyncio.sleep(60)

    for after_s in (0.01, 0.05, 0.12, 0.2):
        task = asyncio.create_task(opening())
        await asyncio.sleep(after_s)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
    await until_gone(engine, session)


async def test_only_the_variables_the_policy_names_go_in(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANARY_SECRET", "canary-value-1")
    monkeypatch.setenv("CANARY_NAMED", "canary-value-2")
    policy = strict()
    policy = policy.model_copy(
        update={"secrets": policy.secrets.model_copy(update={"env": ("CANARY_NAMED",)})}
    )
    async with open_sandbox(SandboxSpec(policy), engine=engine) as box:
        seen = (await box.run(sh("env; cat /proc/*/environ"))).stdout
        assert b"canary-value-2" in seen
        assert b"canary-value-1" not in seen
        assert "canary" not in str(await engine.inspect(box.ref))


async def test_a_writable_root_is_watched_too(engine: Engine) -> None:
    policy = strict(workspace_mb=64)
    container = policy.container.model_copy(update={"writable_root": True, "user": "root"})
    policy = policy.model_copy(update={"container": container})
    async with open_sandbox(SandboxSpec(policy), engine=engine) as box:
        assert (await box.run(sh("echo x > /etc/written && cat /etc/written"))).stdout == b"x\n"
        done = await box.run(
            sh("for i in 1 2 3 4 5 6 7 8 9; do head -c 40m /dev/zero > /fill$i; sleep 0.5; done")
        )
        assert done.disk_exceeded
        assert done.exit_code != 0
        held = await box.run(sh("du -sm --total /fill* | tail -1"))
        assert int(held.stdout.split()[0]) < 300
        assert (await box.run(sh("rm /fill*; echo again"))).stdout == b"again\n"
