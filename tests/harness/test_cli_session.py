"""The command line with real sessions: every test is a user's terminal, and looks for what is left behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest

from tests.security.cli_user import CliUser

pytestmark = pytest.mark.docker


class User(CliUser):
    """With a file in the project, and a terminal."""

    def __init__(self, tmp_path: Path) -> None:
        super().__init__(tmp_path)
        (self.project / "a.txt").write_text("one\n")
        self.temporary = tmp_path / "tmp"
        self.temporary.mkdir()
        self.environ |= {"TERM": "xterm-256color", "TMPDIR": str(self.temporary)}

    def says(self, *replies: dict[str, Any]) -> str:
        """Write a scripted model; returns its name."""
        self.script.write_text("".join(json.dumps(reply) + "\n" for reply in replies))
        return f"scripted:{self.script}"

    def start(self, *argv: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.argv(*argv),
            cwd=self.project,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def terminal(self, *argv: str, rows: int = 24, columns: int = 80) -> pexpect.spawn:
        return pexpect.spawn(
            sys.executable,
            ["-m", "harness", *argv],
            cwd=str(self.project),
            env=self.environ,
            dimensions=(rows, columns),
            encoding="utf-8",
            timeout=60,
        )

    def sessions(self) -> list[str]:
        directory = self.home / "sessions"
        return sorted(path.name for path in directory.iterdir()) if directory.exists() else []

    def containers(self) -> list[str]:
        """Those of this user's sessions, in any state."""
        listed = subprocess.run(
            [
                "docker",
                "ps",
                "-a",
                "--filter",
                "label=usermode.session",
                "--format",
                '{{.Label "usermode.session"}}',
            ],
            capture_output=True,
            text=True,
            check=True,
        )
        return [name for name in listed.stdout.split() if name in self.sessions()]

    def mounts(self) -> list[str]:
        mounted = Path("/proc/self/mountinfo").read_text().splitlines()
        return [line for line in mounted if str(self.home) in line]


@pytest.fixture
def user(tmp_path: Path) -> Iterator[User]:
    someone = User(tmp_path)
    yield someone
    assert someone.containers() == []
    assert someone.mounts() == []
    assert list(someone.temporary.iterdir()) == []


def bash(command: str, **more: Any) -> dict[str, Any]:
    return {"name": "bash", "arguments": {"command": command, **more}}


def wait_for(line: str, process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    for read in process.stdout:
        if line in read:
            return
    raise AssertionError(f"{line!r} never came: {process.stderr.read() if process.stderr else ''}")


def test_a_task_runs_and_its_change_is_reviewed_and_applied(user: User) -> None:
    model = user.says(
        {"text": "Adding.", "calls": [bash("echo two >> a.txt; echo new > b.txt")]}, {"text": "Done."}
    )
    done = user.usermode("run", "add a line", "--model", model)
    assert done.returncode == 0, done.stderr
    assert "done:" in done.stdout
    assert (user.project / "a.txt").read_text() == "one\n"

    shown = user.usermode("diff")
    assert shown.returncode == 0
    assert "+two" in shown.stdout
    assert "added     b.txt" in shown.stdout

    assert user.usermode("apply", "last", "b.txt").returncode == 0
    assert (user.project / "b.txt").read_text() == "new\n"
    assert (user.project / "a.txt").read_text() == "one\n"
    assert user.usermode("apply").returncode == 0
    assert (user.project / "a.txt").read_text() == "one\ntwo\n"

    assert user.usermode("discard", "last").returncode == 0
    assert user.usermode("diff").returncode == 2
    assert user.usermode("verify").stdout.startswith("ok: ")


def test_what_would_run_on_the_host_stands_apart_and_is_left_until_it_is_named(user: User) -> None:
    model = user.says({"calls": [bash("echo 'all:; id' > Makefile; echo x > b.txt")]}, {"text": "Done."})
    user.usermode("run", "x", "--model", model)
    shown = user.looks("diff").stdout
    assert shown.index("b.txt") < shown.index("RUNS ON THIS MACHINE LATER") < shown.index("Makefile")
    assert user.looks("apply").returncode == 0
    assert not (user.project / "Makefile").exists()
    assert user.looks("apply", "last", "Makefile").returncode == 0
    assert (user.project / "Makefile").exists()


def test_a_conflict_is_not_overwritten_and_is_told_by_the_exit_code(user: User) -> None:
    model = user.says({"calls": [bash("echo two >> a.txt")]}, {"text": "Done."})
    user.usermode("run", "x", "--model", model)
    (user.project / "a.txt").write_text("mine\n")
    left = user.looks("apply")
    assert left.returncode == 1
    assert "conflict" in left.stdout
    assert (user.project / "a.txt").read_text() == "mine\n"
    assert user.looks("apply", "--force").returncode == 0


def test_json_is_one_versioned_event_a_line_and_nothing_else(user: User) -> None:
    model = user.says({"text": "Hi.", "calls": [bash("printf '\\033]0;x\\007'")]}, {"text": "Done."})
    done = user.usermode("run", "x", "--json", "--no-workspace", "--model", model)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert {event["v"] for event in events} == {1}
    kinds = [event["kind"] for event in events]
    assert kinds[0] == "session_started"
    assert kinds[-1] == "session_ended"
    assert kinds.index("call_intent") < kinds.index("call_outcome")
    assert done.stderr == ""
    assert "\x1b" not in done.stdout


def test_a_task_comes_from_standard_input(user: User) -> None:
    model = user.says({"text": "Done."})
    done = subprocess.run(
        user.argv("run", "-", "--no-workspace", "--model", model),
        cwd=user.project,
        env=user.environ,
        input="a task\nof two lines\n",
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "a task" in user.looks("ps").stdout


@pytest.mark.parametrize(
    ("reply", "argv", "code"),
    [
        ({"text": "x", "calls": [bash("true")]}, ("--max-turns", "1"), 4),
        ({"text": "x"}, ("--model", "openai-chat:nobody-knows-its-price", "--max-cost", "1"), 2),
        ({"text": "x"}, ("--image", "usermode/none-such"), 6),
        ({"text": "x"}, ("--model", "scripted:/nowhere"), 2),
        ({"text": "x", "calls": [bash("true")]}, (), 5),
    ],
)
def test_each_way_to_end_has_its_own_code(
    user: User, reply: dict[str, Any], argv: tuple[str, ...], code: int
) -> None:
    user.environ["OPENAI_API_KEY"] = "unused"
    done = user.usermode("run", "x", "--no-workspace", "--model", user.says(reply), *argv)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_no_engine_is_one_line_that_says_what_to_do(user: User) -> None:
    user.environ["DOCKER_HOST"] = "unix:///nowhere/docker.sock"
    done = user.usermode("run", "x", "--model", user.says({"text": "x"}))
    assert done.returncode == 6
    assert len(done.stderr.splitlines()) == 1
    assert user.sessions() == []


def test_ctrl_c_once_stops_the_turn_and_keeps_the_changes(user: User) -> None:
    model = user.says({"calls": [bash("echo kept > b.txt; echo begun; sleep 60")]}, {"text": "never"})
    process = user.start("run", "x", "--model", model)
    wait_for("$ echo kept", process)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130, out
    assert "interrupted" in out
    [session] = user.sessions()
    assert out.splitlines()[-1] == f"go on with it: usermode resume {session}"
    assert "b.txt" in user.looks("diff").stdout


@pytest.mark.parametrize("signals", [(signal.SIGINT, signal.SIGINT), (signal.SIGTERM,), (signal.SIGHUP,)])
def test_leaving_at_once_removes_the_container(user: User, signals: tuple[signal.Signals, ...]) -> None:
    model = user.says({"calls": [bash("trap '' TERM INT; echo begun; sleep 60")]}, {"text": "never"})
    process = user.start("run", "x", "--model", model)
    wait_for("$ trap", process)
    time.sleep(1)
    for number in signals:
        process.send_signal(number)
        time.sleep(0.05)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert user.containers() == []


def test_a_reader_that_leaves_ends_the_session_in_good_order(user: User) -> None:
    model = user.says({"calls": [bash("sleep 60")]}, {"text": "never"})
    process = user.start("run", "x", "--json", "--model", model)
    wait_for("call_intent", process)
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(timeout=60) == 141
    assert process.stderr is not None
    process.stderr.close()
    assert "interrupted" in user.looks("ps").stdout


def test_kill_ends_a_session_of_another_process(user: User) -> None:
    model = user.says({"calls": [bash("sleep 60")]}, {"text": "never"})
    process = user.start("run", "x", "--model", model)
    wait_for("$ sleep", process)
    killed = user.usermode("kill", "last")
    assert killed.returncode == 0, killed.stderr
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert "was not running" in user.looks("kill", "last").stdout


def test_the_container_of_a_killed_session_waits_until_it_is_given_up(user: User) -> None:
    model = user.says({"calls": [bash("sleep 60")]}, {"text": "never"})
    process = user.start("run", "x", "--model", model)
    wait_for("$ sleep", process)
    process.kill()
    process.communicate(timeout=60)
    assert user.containers() == user.sessions()
    assert "interrupted" in user.looks("ps").stdout
    # Somebody may go on with it for a while, so it is left until it is given up.
    assert user.sessions()[0] not in user.looks("gc").stdout
    assert user.containers() == user.sessions()
    assert "ended" in user.usermode("kill", "last").stdout
    assert user.containers() == []
    assert user.sessions()[0] not in user.looks("gc").stdout


def test_a_running_session_is_not_applied_or_discarded(user: User) -> None:
    model = user.says({"calls": [bash("echo x > b.txt; sleep 60")]}, {"text": "never"})
    process = user.start("run", "x", "--model", model)
    wait_for("$ echo", process)
    for command in ("apply", "discard"):
        refused = user.looks(command, "last")
        assert refused.returncode == 2
        assert "usermode kill" in refused.stderr
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)


@pytest.mark.parametrize(("rows", "columns"), [(24, 80), (12, 40)])
def test_the_live_view_works_on_a_terminal_of_any_size(user: User, rows: int, columns: int) -> None:
    call = bash("for i in 1 2 3; do echo line $i; sleep 0.4; done; printf '\\033]0;evil\\007'")
    model = user.says({"text": "Counting now.", "calls": [call]}, {"text": "Done."})
    screen = user.terminal("run", "x", "--no-workspace", "--model", model, rows=rows, columns=columns)
    screen.expect("Ctrl-C stops")
    screen.expect("line 2")
    screen.expect("done: ")
    screen.expect(pexpect.EOF)
    assert screen.wait() == 0
    assert "\x1b]" not in screen.before


def test_a_shell_is_contained_and_its_changes_wait_for_review(user: User) -> None:
    shell = user.terminal("shell", "--policy", "strict", rows=30, columns=100)
    shell.expect(r"\$ ")
    shell.sendline("stty size; id -u; ls /sys/class/net; tty")
    shell.expect("30 100")
    shell.expect("1000")
    shell.expect("lo\r\n")
    shell.setwinsize(33, 77)
    shell.sendline("sleep 0.5; stty size")
    shell.expect("33 77")
    shell.sendline("printf '\\033]52;c;AAAA\\007'; echo mar''ker")
    shell.expect("marker")
    assert "\x1b]52" not in shell.before
    shell.sendline("sleep 60")
    time.sleep(0.5)
    shell.sendcontrol("c")
    shell.sendline("echo changed > a.txt; exit")
    shell.expect("1 file changed; review them: usermode diff")
    shell.expect(pexpect.EOF)
    assert shell.wait() == 0
    assert "+changed" in user.looks("diff").stdout


def test_a_shell_that_does_not_answer_can_be_left(user: User) -> None:
    shell = user.terminal("shell", "--policy", "strict", "--no-workspace")
    shell.expect(r"\$ ")
    shell.sendline("trap '' INT QUIT TERM TSTP; echo de''af; stty raw -echo; while :; do sleep 1; done")
    shell.expect("deaf")
    time.sleep(0.5)
    shell.send("\x1d\x1d")
    shell.expect(pexpect.EOF)
    assert shell.wait() == 0


def test_a_shell_without_a_terminal_is_refused(user: User) -> None:
    refused = user.usermode("shell")
    assert refused.returncode == 2
    assert "needs a terminal" in refused.stderr
    assert user.sessions() == []
