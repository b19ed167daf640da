"""A session that needs a host, a command as root and a secret: with a yes, a no, and nobody there."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pexpect
import pytest
from cli_user import CliUser

from harness.events import ApprovalAnswered, ApprovalAsked, CallOutcome, EgressDecided, SessionEnded
from harness.journal.reading import read
from harness.screen.approval_keys import ALONE_S, ARM_S
from sandbox.egress.authority import Authority

pytestmark = pytest.mark.docker

VALUE = "real-value-81c2f0a4"
MARK = re.compile(r"questions to you begin with ([0-9a-f]{4})")
CURL = "curl -sS --noproxy '' --max-time 20"
"""The gate is asked about the loopback, too, which programs otherwise take for their own."""


class Servers:
    """Two hosts on this machine's loopback, and what they were asked."""

    def __init__(self, directory: Path) -> None:
        self.authority = Authority("these tests")
        self.ca_file = directory / "ca.pem"
        self.ca_file.write_bytes(self.authority.pem)
        self.heard: list[str] = []
        self.http = self.https = 0

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError, ssl.SSLError):
            self.heard.append((await reader.readuntil(b"\r\n\r\n")).decode("latin-1"))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\nConnection: close\r\n\r\nreached\n")
            await writer.drain()
        writer.close()

    async def _serve(self, ready: threading.Event, over: asyncio.Event) -> None:
        context = self.authority.context("localhost")
        async with (
            await asyncio.start_server(self._answer, "127.0.0.1", 0) as plain,
            await asyncio.start_server(self._answer, "127.0.0.1", 0, ssl=context) as secure,
        ):
            self.http, self.https = (one.sockets[0].getsockname()[1] for one in (plain, secure))
            ready.set()
            await over.wait()

    @contextmanager
    def up(self) -> Iterator[None]:
        """Beside the test, which waits for a terminal."""
        loop, over, ready = asyncio.new_event_loop(), asyncio.Event(), threading.Event()
        thread = threading.Thread(target=lambda: loop.run_until_complete(self._serve(ready, over)))
        thread.start()
        assert ready.wait(10)
        yield
        loop.call_soon_threadsafe(over.set)
        thread.join()
        loop.close()


class Needs:
    """The session: what it is allowed, what it asks for, and what came of each."""

    def __init__(self, user: CliUser, servers: Servers, timeout_s: float = 60) -> None:
        self.user, self.servers = user, servers
        self.policy = user.project.parent / "needy.toml"
        self.policy.write_text(
            f"""
name = "needy"
unmatched = "deny"
[limits]
command_s = 30
[network]
allow = ["localhost:{servers.https}"]
addresses = ["127.0.0.0/8", "::1"]
intercept = true
ca_file = "{servers.ca_file}"
[[secrets.bound]]
name = "API_TOKEN"
host = "localhost"
ask = true
[sudo]
may_ask = ["network", "root", "secret"]
timeout_s = {timeout_s}
[container]
image = "usermode/dev"
capabilities = ["CHOWN"]
[[rules]]
syscall = "bash"
action = "allow"
reason = "Contained."
[[rules]]
syscall = "sudo"
action = "allow"
reason = "The user is asked."
"""
        )
        user.environ["API_TOKEN"] = VALUE
        steps: list[tuple[str, dict[str, Any]]] = [
            ("sudo", {"network": f"localhost:{servers.http}", "reason": "The \x1b[2Jlibrary is there."}),
            ("bash", {"command": f"{CURL} http://localhost:{servers.http}/library; echo; touch /tmp/it"}),
            (
                "sudo",
                {"root": {"command": "chown 0:0 /tmp/it", "cwd": "/tmp"}, "reason": "It must be root's."},
            ),
            ("bash", {"command": "stat -c 'owner %u' /tmp/it"}),
            ("sudo", {"secret": "API_TOKEN", "reason": "The service wants it."}),
            (
                "bash",
                {
                    "command": f'{CURL} -H "Authorization: Bearer $API_TOKEN" https://localhost:{servers.https}/service'
                },
            ),
        ]
        lines = [{"calls": [{"name": name, "arguments": arguments}]} for name, arguments in steps]
        user.script.write_text("".join(json.dumps(line) + "\n" for line in [*lines, {"text": "Done."}]))

    @property
    def command(self) -> list[str]:
        options = ["--policy", str(self.policy), "--model", f"scripted:{self.user.script}"]
        return [sys.executable, "-m", "harness", "run", "work", *options]

    def at_a_terminal(self, *answers: str) -> tuple[int, str]:
        """Run it in a terminal, answer each question with these keys: exit code, and all that was shown."""
        child = pexpect.spawn(
            self.command[0], self.command[1:], cwd=str(self.user.project), encoding="utf-8", timeout=100,
            dimensions=(30, 100), env={**self.user.environ, "TERM": "xterm-256color"},
        )  # fmt: skip
        shown: list[str] = []
        child.logfile_read = type(
            "Log", (), {"write": staticmethod(shown.append), "flush": lambda self: None}
        )()
        child.send("y\ny\n")  # typed ahead: answers nothing
        child.expect(MARK.pattern)
        mark = child.match.group(1)
        for number, keys in enumerate(answers, 1):
            child.expect_exact(f"{mark} usermode asks, a{number}")
            time.sleep(ARM_S + 0.3)
            for key in keys:
                child.send(key)
                time.sleep(ALONE_S)
        child.expect(pexpect.EOF)
        child.close()
        return child.exitstatus, "".join(shown)

    def entries(self, kind: type) -> list[Any]:
        found = [record.entry for record in read(self.user.journal.parent)]
        return [entry for entry in found if isinstance(entry, kind)]

    def outputs(self) -> list[str]:
        """Of the three commands that need what was asked for."""
        return [one.result.content for one in self.entries(CallOutcome) if one.result.name == "bash"]

    def heard(self, path: str) -> list[str]:
        return [request for request in self.servers.heard if f" /{path} " in request]


@pytest.fixture
def needs(tmp_path: Path) -> Iterator[Any]:
    servers = Servers(tmp_path)
    with servers.up():
        yield lambda **options: Needs(CliUser(tmp_path), servers, **options)


def assert_asked(session: Needs) -> None:
    assert [one.what for one in session.entries(ApprovalAsked)] == ["network", "root", "secret"]
    assert VALUE not in session.user.journal.read_text()


def assert_nothing_happened(session: Needs) -> None:
    assert session.heard("library") == []
    assert "owner 0" not in session.outputs()[1]
    assert not any(VALUE in request for request in session.servers.heard)
    assert session.entries(SessionEnded)[0].status == "refused"
    decided = session.entries(EgressDecided)
    assert not [one for one in decided if one.port == session.servers.http and one.decision == "allow"]


def test_each_yes_has_its_effect_and_no_other(needs: Any) -> None:
    session = needs()
    code, shown = session.at_a_terminal("y", "y", "sy")  # a secret is for a time, not for once
    assert_asked(session)
    answers = session.entries(ApprovalAnswered)
    assert [(one.granted, one.scope, one.by) for one in answers] == [
        (True, "once", "terminal"),
        (True, "once", "terminal"),
        (True, "session", "terminal"),
    ]
    outputs = session.outputs()
    assert "reached" in outputs[0]
    assert "owner 0" in outputs[1]
    assert "reached" in outputs[2]
    assert len(session.heard("library")) == 1
    assert [f"Bearer {VALUE}" in request for request in session.heard("service")] == [True]
    assert (code, session.entries(SessionEnded)[0].status) == (0, "done")
    # What the model said was shown as its words, and acted on nothing.
    assert r"\x1b[2Jlibrary is there" in shown
    assert VALUE not in shown


def test_after_each_no_nothing_has_happened_and_the_exit_code_says_so(needs: Any) -> None:
    session = needs()
    code, shown = session.at_a_terminal("\r", "n", "\x03")
    assert_asked(session)
    answers = session.entries(ApprovalAnswered)
    assert [(one.granted, one.code, one.by) for one in answers] == [(False, "denied", "terminal")] * 3
    assert_nothing_happened(session)
    assert code == 3
    assert VALUE not in shown


def test_unattended_each_question_runs_out_of_time_and_nothing_has_happened(needs: Any) -> None:  # D14
    session = needs(timeout_s=1)
    done = subprocess.run(
        session.command, cwd=session.user.project, env=session.user.environ, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert_asked(session)
    answers = session.entries(ApprovalAnswered)
    assert [(one.granted, one.code) for one in answers] == [(False, "approval_timeout")] * 3
    assert_nothing_happened(session)
    assert done.returncode == 3, done.stdout + done.stderr
    assert VALUE not in done.stdout + done.stderr
