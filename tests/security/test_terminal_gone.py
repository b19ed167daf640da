"""A chat whose terminal goes away, or is lent to the shell for a while: Ctrl-Z, `fg`, and a closed window."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shlex
import signal
import time
from pathlib import Path

import pexpect
import pytest
from cli_user import CliUser

from harness.commands.run import Watch, _Signals
from harness.events import CallOutcome, Event, MessageAdded, Notice, SessionEnded
from harness.exits import CLOSED_PIPE
from harness.journal.reading import read
from harness.process.interrupt import Interrupt

READY = "\x1b[?2004h"
LONG = {"calls": [{"name": "bash", "arguments": {"command": "echo begun >> ran; sleep 60"}}]}


@pytest.mark.docker
def test_a_chat_is_stopped_and_continued_and_a_closed_terminal_ends_it(tmp_path: Path) -> None:
    user = CliUser(tmp_path)
    user.script.write_text(json.dumps({"text": "I am here."}) + "\n" + json.dumps(LONG) + "\n")
    environ = {**user.environ, "TERM": "xterm-256color", "PS1": "SHELL "}
    shell = pexpect.spawn(
        "bash", ["--norc", "--noprofile", "--noediting", "-i"], cwd=str(user.project), encoding="utf-8",
        timeout=60, dimensions=(30, 100), env=environ,
    )  # fmt: skip
    code = tmp_path / "code"
    try:
        command = shlex.join([*user.argv("chat"), "--model", f"scripted:{user.script}"])
        shell.send(f"{command}; echo $? > {code}\r")
        shell.expect_exact(READY)
        shell.send("\x1a")
        shell.expect("Stopped")
        shell.send("fg\r")
        shell.expect_exact(READY)
        shell.send("hello\r")
        shell.expect("I am here")
        shell.send("go on\r")
        shell.expect_exact("call_1")
        directory = user.journal.parent
    finally:
        shell.ptyproc.fileobj.close()
    entries: list[object] = []
    deadline = time.monotonic() + 30
    while not any(isinstance(one, SessionEnded) for one in entries):
        assert time.monotonic() < deadline, entries[-3:]
        time.sleep(0.1)
        entries = [record.entry for record in read(directory)]
    ended = entries[-1]
    assert isinstance(ended, SessionEnded)
    # Either way a terminal goes: nobody reads any more, or SIGHUP. Neither is a fault.
    assert ended.status in {"killed", "interrupted", "done"}
    assert [one.message.text for one in entries if isinstance(one, MessageAdded)][:2] == [
        "hello",
        "I am here.",
    ]
    assert len([one for one in entries if isinstance(one, CallOutcome)]) <= 1


async def test_a_terminal_that_is_told_to_be_gone_twice_ends_the_session_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left: list[str] = []
    monkeypatch.setattr("harness.commands.run.os._exit", lambda code: left.append("at once"))
    loop = asyncio.get_running_loop()
    with _Signals(loop, (), lambda: left.append("in good order")):
        for number in (signal.SIGHUP, signal.SIGHUP, signal.SIGTERM):
            signal.raise_signal(number)
            await asyncio.sleep(0.05)
            if number == signal.SIGHUP:
                assert left == ["in good order"]
    assert left[:2] == ["in good order", "at once"]


@pytest.mark.parametrize("number", [errno.EPIPE, errno.EIO, errno.ENOSPC])
def test_a_view_that_cannot_be_written_to_ends_the_session_in_good_order(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    shown: list[Event] = []

    class Gone:
        def __call__(self, event: Event) -> None:
            shown.append(event)
            raise OSError(number, os.strerror(number))

        def close(self) -> None:
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr("harness.commands.run.os.dup2", lambda *descriptors: None)
    interrupt = Interrupt()
    watch = Watch(Gone(), interrupt, quiet=False)
    for _ in range(2):
        watch(Notice(level="info", code="any", text="text"))
    watch.close()
    assert (len(shown), interrupt.cause, watch.lost) == (1, "user", True)
    assert CLOSED_PIPE == 141
