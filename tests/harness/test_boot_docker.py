"""The whole path on a real engine: boot, a container, bash and ripgrep as they are, nothing left behind."""

from __future__ import annotations

import json

import pytest

from harness.boot.parts import RunOptions
from harness.boot.start import run
from harness.events import CallOutcome, SessionStarted
from harness.journal.reading import read
from harness.process.interrupt import Interrupt
from harness.store import Store
from policies import load
from sandbox.engine import Engine

pytestmark = pytest.mark.docker


@pytest.fixture
def session(tmp_path):
    """Run a script of single calls in a container; returns the end and the calls' outcomes."""

    async def go(*made, image="usermode/base", policy=None):
        workspace = tmp_path / "repository"
        workspace.mkdir(exist_ok=True)
        (workspace / "hello.py").write_text("print('hello')\n")
        script = tmp_path / "script.jsonl"
        lines = [{"calls": [{"name": name, "arguments": arguments}]} for name, arguments in made]
        script.write_text("".join(json.dumps(line) + "\n" for line in [*lines, {"text": "Done."}]))
        options = RunOptions(
            task="try it",
            model=f"scripted:{script}",
            policy=policy or load("dev"),
            workspace=workspace,
            image=image,
            home=tmp_path / "home",
        )
        ended = await run(options, lambda event: None, Interrupt())
        (row,) = Store(tmp_path / "home").list()[-1:]
        entries = [record.entry for record in read(row.directory)]
        assert isinstance(entries[0], SessionStarted)
        return ended, [entry for entry in entries if isinstance(entry, CallOutcome)], entries[0].session

    return go


def shell(command, **more):
    return "bash", {"command": command, **more}


async def test_a_session_in_a_container_from_start_to_end(session):
    ended, outcomes, name = await session(
        shell("cat hello.py && python3 hello.py"),
        ("edit", {"path": "hello.py", "edits": [{"old": "hello", "new": "goodbye"}]}),
        shell("python3 hello.py"),
        ("grep", {"pattern": "good.ye", "context": 1}),
        ("glob", {"pattern": "**/*.py"}),
        ("read", {"path": "hello.py"}),
    )
    assert (ended.status, ended.exit_code, ended.changes) == ("done", 0, 1)
    assert [outcome.result.error for outcome in outcomes] == [None] * 6
    shown = [outcome.result.content for outcome in outcomes]
    assert shown[2] == "goodbye\n[exit code 0]"
    assert shown[3] == "/workspace/hello.py:1:print('goodbye')"
    assert shown[4] == "hello.py"
    assert shown[5] == "     1\tprint('goodbye')"
    engine = await Engine.connect()
    try:
        assert await engine.containers({"usermode.session": name}) == []
    finally:
        await engine.close()


async def test_a_real_bash_keeps_its_directory_and_its_manners(session):
    _, outcomes, _ = await session(
        shell('mkdir "a \'b"; cd "a \'b"; exit 3'),
        shell("pwd; set -x; cd /tmp; true"),
        shell("echo (", cwd="/workspace"),
        shell("trap 'echo bye' EXIT; cd /tmp"),
        shell("set -eu; echo ${1:-none} $#; false; echo never"),
        shell("nonsense"),
        shell("cat <<'END'\nit's $HOME\nEND"),
        shell("exec sh -c 'echo replaced'"),
        shell("kill -9 $$"),
    )
    shown = [outcome.result.content for outcome in outcomes]
    assert shown[0] == "[exit code 3; no output; working directory: /workspace/a 'b]"
    assert "<stdout>\n/workspace/a 'b\n</stdout>\n<stderr>\n++ cd /tmp\n++ true" in shown[1]
    assert "PWD" not in shown[1]
    assert "syntax error near unexpected token" in shown[2]
    assert shown[3].startswith("bye\n")
    assert shown[4] == "none 0\n[exit code 1]"
    assert "line 1: nonsense: command not found" in shown[5]
    assert "exit code 127" in shown[5]
    assert shown[6] == "it's $HOME\n[exit code 0]"
    assert shown[7] == "replaced\n[exit code 0]"
    assert "ended by signal 9 (SIGKILL)" in shown[8]


async def test_jobs_and_time_limits_on_a_real_container(session):
    _, outcomes, _ = await session(
        shell("cat; echo over", background=True),
        ("job", {"action": "input", "job": "job-1", "input": "typed\n", "wait_s": 0.3}),
        ("job", {"action": "input", "job": "job-1", "close_stdin": True, "wait_s": 20}),
        shell("trap '' TERM; echo stubborn; setsid sleep 100 & sleep 100", timeout_s=0.5),
        shell("ps -eo comm= | grep -c sleep"),
    )
    shown = [outcome.result.content for outcome in outcomes]
    assert shown[1].startswith("typed\n[job-1 still runs")
    assert shown[2] == "over\n[job-1 has ended: exit code 0]"
    assert outcomes[3].result.error == "timed_out"
    assert shown[3].startswith("stubborn\n")
    assert shown[4].startswith("0\n")


async def test_output_past_the_limit_is_in_a_file_that_read_opens(session):
    policy = load("dev")
    policy = policy.model_copy(update={"limits": policy.limits.model_copy(update={"output_bytes": 1000})})
    _, outcomes, _ = await session(
        shell("seq 1 100000"),
        ("read", {"path": "/tmp", "limit": 5}),
        policy=policy,
    )
    shown = outcomes[0].result.content
    assert shown.startswith("1\n2\n3\n")
    assert shown.endswith("100000\n[exit code 0]")
    assert "587,895 of 588,895 bytes of stdout are left out here" in shown
    assert outcomes[0].details["spill"]["stdout"] in shown
