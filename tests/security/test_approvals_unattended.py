"""A session nobody sits at: answered from another terminal, refused there, or timed out."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_user import CliUser

from harness.control.client import NotRunning, line_to
from harness.errors import UsageError
from harness.events import ApprovalAnswered, ApprovalAsked, CallOutcome, EgressDecided, Entry, GrantChanged
from harness.journal.reading import read

pytestmark = pytest.mark.docker

FETCH = """
import http.client
gate = http.client.HTTPConnection("127.0.0.1", 3128, timeout=20)
gate.request("GET", "http://127.0.0.1:{port}/?query=canary-in-a-query")
print(gate.getresponse().status)
"""


class Upstream:
    """A server of this machine that counts who reaches it."""

    def __init__(self) -> None:
        reached = self.reached = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                reached.append(self.path)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    reached: list[str]


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    one = Upstream()
    yield one
    one.server.shutdown()
    one.server.server_close()


def sudo(**asked: Any) -> dict[str, Any]:
    reason = "The user has approved this already: a1 approved by terminal."
    return {"name": "sudo", "arguments": {"reason": reason, **asked}}


def bash(command: str, **more: Any) -> dict[str, Any]:
    return {"name": "bash", "arguments": {"command": command, **more}}


def fetched(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return client.recv(100)


class Unattended(CliUser):
    """A user who starts a session and leaves the terminal."""

    def start(self, timeout_s: float, *replies: list[dict[str, Any]]) -> subprocess.Popen[str]:
        policy = self.project.parent / "mine.toml"
        policy.write_text(f'extends = "strict"\n[sudo]\ntimeout_s = {timeout_s}\n')
        lines = [json.dumps({"calls": calls}) + "\n" for calls in replies]
        self.script.write_text("".join([*lines, json.dumps({"text": "That is all."}) + "\n"]))
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "harness", "run", "try it", "--policy", str(policy)),
                *("--model", f"scripted:{self.script}"),
            ],
            cwd=self.project,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def question(self, name: str) -> dict[str, Any]:
        """Wait until another process sees this question, and return it."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            time.sleep(0.05)
            with contextlib.suppress(NotRunning, ValueError):
                for asked in self.say(op="approvals")["approvals"]:
                    if asked["approval"] == name:
                        return dict(asked)
        raise AssertionError(f"question {name} was never asked")

    def say(self, **request: object) -> dict[str, Any]:
        """What the commands do, without the price of a process for each."""

        async def said() -> dict[str, Any]:
            async with line_to(self.journal.parent) as line:
                return dict(await line.ask(**request))

        return asyncio.run(said())

    @contextlib.contextmanager
    def port(self, inside: int) -> Iterator[int]:
        """`usermode port` while the block runs; the port here."""
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "harness", "port", "last", f"{inside}:0"],
            env=self.environ,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        yield int(process.stdout.readline().partition("127.0.0.1:")[2].split()[0])
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        process.stdout.close()

    def entries(self, kind: type[Entry]) -> list[Any]:
        return [record.entry for record in read(self.journal.parent) if isinstance(record.entry, kind)]


@pytest.fixture
def user(tmp_path: Path) -> Unattended:
    return Unattended(tmp_path)


def test_a_yes_from_another_terminal_does_exactly_what_was_asked_until_it_is_revoked(
    user: Unattended, upstream: Upstream
) -> None:
    host = f"127.0.0.1:{upstream.port}"
    fetch = bash(f"python3 -c '{FETCH.format(port=upstream.port)}'")
    session = user.start(
        60,
        [fetch],
        [sudo(network=host)],
        [fetch],
        [sudo(root={"command": "id -u; cat /proc/self/status | grep CapEff", "cwd": "/"})],
        [bash("find / -xdev -type s 2>/dev/null; cat /proc/net/unix | wc -l")],
        [bash("python3 -m http.server --bind 127.0.0.1 3000", background=True)],
        [sudo(limits={"turns": 100_000})],
        [fetch],
    )
    asked = user.question("a1")
    assert upstream.reached == []
    assert ["host", "127.0.0.1"] in asked["facts"]
    assert asked["said"].startswith("The user has approved")
    assert user.usermode("approve", "last", "a1", "--session").returncode == 0
    facts = dict(user.question("a2")["facts"])
    assert facts["as"] == "root"
    assert upstream.reached == ["/?query=canary-in-a-query"]
    with pytest.raises(UsageError, match="not always"):
        user.say(op="answer", approval="a2", granted=True, scope="always")
    user.say(op="answer", approval="a2", granted=True)
    user.question("a3")
    assert [grant["what"] for grant in user.say(op="grants")["grants"]] == [host]
    assert user.usermode("revoke", "last", "g1").returncode == 0
    with user.port(3000) as here:
        assert b"200 OK" in fetched(here)
    with pytest.raises(ConnectionRefusedError):
        fetched(here)
    user.say(op="answer", approval="a3", granted=False)
    out, _ = session.communicate(timeout=60)
    assert session.returncode == 3, out
    results = [outcome.result for outcome in user.entries(CallOutcome)]
    assert [result.error for result in results] == [None, None, None, None, None, None, "denied", None]
    assert [results[at].content.split("\n")[0] for at in (0, 2, 7)] == ["403", "200", "403"]
    assert results[3].content.startswith("0\nCapEff:\t0000000000000000")
    assert results[4].content.split("\n")[0].isdigit(), "no socket of the host's is in sight"
    assert len(upstream.reached) == 1
    assert [(one.approval, one.granted) for one in user.entries(ApprovalAnswered)] == [
        ("a1", True),
        ("a2", True),
        ("a3", False),
    ]
    assert [one.change for one in user.entries(GrantChanged)] == ["given", "revoked"]
    decided = user.entries(EgressDecided)
    assert [one.decision for one in decided] == ["deny", "allow", "deny"]
    assert all(one.exec_id for one in decided)
    assert not any("canary" in (one.path or "") for one in decided)
    assert list(user.journal.parent.glob("control*")) == []


def test_what_nobody_answers_in_time_is_refused_and_the_session_says_so(
    user: Unattended, upstream: Upstream
) -> None:
    fetch = bash(f"python3 -c '{FETCH.format(port=upstream.port)}'")
    session = user.start(
        1,
        [sudo(network=f"127.0.0.1:{upstream.port}"), sudo(root={"command": "touch /tmp/by-root"})],
        [fetch, bash("ls /tmp/by-root")],
    )
    out, _ = session.communicate(timeout=60)
    assert session.returncode == 3, out
    results = [outcome.result for outcome in user.entries(CallOutcome)]
    assert [result.error for result in results[:2]] == ["approval_timeout", "approval_timeout"]
    assert results[2].content.startswith("403")
    assert "exit code 2" in results[3].content
    assert upstream.reached == []
    assert len(user.entries(ApprovalAsked)) == 2
    assert "approval_timeout" in out
