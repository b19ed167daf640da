"""A chat on a real terminal: two turns, steering while a command runs, Ctrl-C, a question, and going on."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest
from cli_user import CliUser

from harness.events import ApprovalAnswered, CallOutcome, MessageAdded, SandboxOpened, SessionEnded, TurnDone
from harness.journal.reading import read
from harness.screen.approval_keys import ALONE_S, ARM_S

pytestmark = pytest.mark.docker

READY = "\x1b[?2004h"
"""The line can be typed in: pastes say that they are."""
ASKING = """
name = "asking"
[[rules]]
syscall = "bash"
when.command = "touch"
action = "ask"
reason = "You decide."
[[rules]]
syscall = "*"
action = "allow"
reason = "Inside everything may happen."
"""


class Chat:
    """A user, what they see, and what is on record of it."""

    def __init__(self, where: Path) -> None:
        self.user = CliUser(where)
        self.policy = where / "asking.toml"
        self.policy.write_text(ASKING)
        self.children: list[pexpect.spawn] = []

    def says(self, *replies: str | dict[str, object]) -> None:
        made = [{"text": reply} if isinstance(reply, str) else reply for reply in replies]
        self.user.script.write_text("".join(json.dumps(reply) + "\n" for reply in made))

    def begin(self, *argv: str) -> pexpect.spawn:
        child = pexpect.spawn(
            sys.executable, ["-m", "harness", "chat", *argv], cwd=str(self.user.project), encoding="utf-8",
            timeout=60, dimensions=(30, 100), env={**self.user.environ, "TERM": "xterm-256color"},
        )  # fmt: skip
        self.children.append(child)
        return child

    def entries(self, kind: type) -> list[object]:
        found = [record.entry for record in read(self.user.journal.parent)]
        return [entry for entry in found if isinstance(entry, kind)]

    def said(self) -> list[str]:
        return [entry.message.text for entry in self.entries(MessageAdded) if entry.message.role == "user"]


@pytest.fixture
def chat(tmp_path: Path) -> Iterator[Chat]:
    one = Chat(tmp_path)
    yield one
    for child in one.children:
        child.close(force=True)


def bash(command: str) -> dict[str, object]:
    return {"calls": [{"name": "bash", "arguments": {"command": command}}]}


def ended(child: pexpect.spawn) -> int:
    child.expect(pexpect.EOF)
    child.close()
    return child.exitstatus


def test_a_chat_of_many_turns_steered_asked_stopped_left_and_gone_on_with(chat: Chat) -> None:
    chat.says(
        "Hello to you.",
        bash("sleep 3; echo slept well"),
        "Tabs it is.",
        bash("touch marker"),
        "May I not?",
        bash("sleep 60"),
        "Here again.",
    )
    child = chat.begin("--policy", str(chat.policy), "--model", f"scripted:{chat.user.script}")
    child.expect("questions to you begin with ([0-9a-f]{4})")
    mark = child.match.group(1)
    child.expect_exact(READY)
    child.send("hello there\r")
    child.expect_exact("› hello there")
    child.expect_exact("Hello to you.")

    # Steering while a command runs: it is not stopped, and the model reads it next.
    child.send("sleep a little\r")
    child.expect_exact("$ sleep 3")
    child.send("rather use tabs\r")
    child.expect_exact("waits for the next request: rather use tabs")
    child.expect_exact("slept well")
    child.expect_exact("› rather use tabs")
    child.expect_exact("Tabs it is.")
    slept = chat.entries(CallOutcome)[0]
    assert slept.result.error is None

    # What is typed into the line, and typed ahead, is no answer; the line stands there afterwards.
    child.send("mark it\r")
    child.expect_exact("› mark it")
    child.send("y\x0by")
    child.expect_exact(f"{mark} usermode asks, a1")
    child.send("y\r")
    time.sleep(ARM_S + 0.3)
    child.send("n")
    time.sleep(ALONE_S)
    child.expect_exact("May I not?")
    [answer] = chat.entries(ApprovalAnswered)
    assert (answer.granted, answer.by) == (False, "terminal")

    # Ctrl-C stops the turn and not the session.
    child.send("\x01\x0bsleep long\r")
    child.expect_exact("$ sleep 60")
    child.send("\x03")
    child.expect_exact("interrupted: the turn was cancelled")
    child.send("/nonsense\r")
    child.expect_exact("there is no /nonsense")
    child.send("/quit\r")
    assert ended(child) == 0
    assert chat.said() == ["hello there", "sleep a little", "rather use tabs", "mark it", "sleep long"]
    assert [entry.status for entry in chat.entries(TurnDone)] == ["done", "done", "done", "interrupted"]
    # One session is one container.
    assert len(chat.entries(SandboxOpened)) == 1
    assert chat.entries(CallOutcome)[-1].result.error == "cancelled"

    child = chat.begin("--resume", "last")
    child.expect_exact(READY)
    child.send("still there?\r")
    child.expect_exact("Here again.")
    child.send("\x03")
    child.expect_exact("Ctrl-C again leaves")
    child.send("\x03")
    assert ended(child) == 0
    assert chat.said()[-1] == "still there?"
    assert len(chat.entries(SessionEnded)) == 2


def test_lines_of_a_pipe_are_turns_and_events_are_json(chat: Chat) -> None:
    chat.says("One.", "Two.")
    done = subprocess.run(
        [sys.executable, "-m", "harness", "chat", "--json", "--model", f"scripted:{chat.user.script}"],
        cwd=chat.user.project, env=chat.user.environ, input="first\n\n/nonsense\n//second\n",
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["status"] for event in events if event["kind"] == "turn_ended"] == ["done", "done"]
    assert chat.said() == ["first", "/second"]
    assert "there is no /nonsense" in done.stderr
