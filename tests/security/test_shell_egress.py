"""A shell has the way out of its policy, and asks at another terminal: on its own the guest draws."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest
from test_approvals_unattended import Unattended, Upstream

from harness.events import ApprovalAnswered, ApprovalAsked, EgressDecided

pytestmark = pytest.mark.docker

FETCH = """
import http.client, sys
gate = http.client.HTTPConnection("127.0.0.1", 3128, timeout=60)
gate.request("GET", sys.argv[1])
print("answered", gate.getresponse().status)
"""


@pytest.fixture
def upstreams() -> Iterator[list[Upstream]]:
    both = [Upstream(), Upstream()]
    yield both
    for one in both:
        one.server.shutdown()
        one.server.server_close()


def shell_of(user: Unattended, policy: str) -> pexpect.spawn:
    file = user.project.parent / "mine.toml"
    file.write_text(f'extends = "strict"\n{policy}')
    (user.project / "fetch.py").write_text(FETCH)
    return pexpect.spawn(
        sys.executable, ["-m", "harness", "shell", "--policy", str(file)], cwd=str(user.project),
        env={**user.environ, "TERM": "xterm"}, dimensions=(30, 150), encoding="utf-8", timeout=60,
    )  # fmt: skip


def ended(shell: pexpect.spawn) -> None:
    shell.sendline("exit")
    shell.expect(pexpect.EOF)
    assert shell.wait() == 0


def test_a_shell_reaches_what_is_listed_and_waits_for_what_another_terminal_says_of_the_rest(
    tmp_path: Path, upstreams: list[Upstream]
) -> None:
    user, (listed, other) = Unattended(tmp_path), upstreams
    shell = shell_of(
        user,
        f'[network]\nallow = ["127.0.0.1:{listed.port}"]\naddresses = ["127.0.0.0/8"]\nask = true\n'
        "[sudo]\ntimeout_s = 60\n",
    )
    shell.expect("a host that is not listed waits for you: usermode approvals")
    shell.expect(r"\$ ")
    shell.sendline(f"python3 fetch.py http://127.0.0.1:{listed.port}/listed")
    shell.expect("answered 200")
    fetch = f"python3 fetch.py http://127.0.0.1:{other.port}/asked"
    shell.sendline(fetch)
    asked = user.question("a1")
    assert "the shell" in dict(asked["facts"])["opened by"]
    assert user.usermode("deny", "last", "a1").returncode == 0
    shell.expect("answered 403")
    # A no is remembered for the command that got it, and the shell is one command.
    shell.sendline(fetch)
    shell.expect("answered 403")
    ended(shell)
    assert (listed.reached, other.reached) == (["/listed"], [])
    decided = user.entries(EgressDecided)
    assert [entry.decision for entry in decided] == ["allow", "deny", "deny"]
    assert len({entry.exec_id for entry in decided} - {None}) == 1
    (question,) = user.entries(ApprovalAsked)
    assert question.call_id == "shell"


def test_a_yes_from_another_terminal_lets_the_shell_through(
    tmp_path: Path, upstreams: list[Upstream]
) -> None:
    user, (one, _) = Unattended(tmp_path), upstreams
    shell = shell_of(user, '[network]\naddresses = ["127.0.0.0/8"]\nask = true\n[sudo]\ntimeout_s = 60\n')
    shell.expect(r"\$ ")
    shell.sendline(f"python3 fetch.py http://127.0.0.1:{one.port}/")
    user.question("a1")
    assert user.usermode("approve", "last", "a1").returncode == 0
    shell.expect("answered 200")
    said = user.usermode("say", "last", "hello")
    assert said.returncode != 0
    assert "is a shell" in said.stderr
    ended(shell)
    assert one.reached == ["/"]


def test_nobody_answering_is_a_no_for_a_shell_too(tmp_path: Path, upstreams: list[Upstream]) -> None:
    user, (one, _) = Unattended(tmp_path), upstreams
    shell = shell_of(user, '[network]\naddresses = ["127.0.0.0/8"]\nask = true\n[sudo]\ntimeout_s = 0.5\n')
    shell.expect(r"\$ ")
    shell.sendline(f"python3 fetch.py http://127.0.0.1:{one.port}/")
    shell.expect("answered 403")
    ended(shell)
    assert one.reached == []
    assert [entry.code for entry in user.entries(ApprovalAnswered)] == ["approval_timeout"]


def test_without_a_way_out_in_its_policy_a_shell_has_none(tmp_path: Path, upstreams: list[Upstream]) -> None:
    user, (one, _) = Unattended(tmp_path), upstreams
    shell = shell_of(user, "[sudo]\nmay_ask = []\n")
    shell.expect(r"\$ ")
    shell.sendline(f"python3 fetch.py http://127.0.0.1:{one.port}/ 2>&1 | tail -n 1")
    shell.expect("ConnectionRefusedError")
    ended(shell)
    assert one.reached == []
